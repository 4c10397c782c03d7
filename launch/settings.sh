# shellcheck shell=bash disable=SC2034
# Reads the env file: KEY=VALUE lines, also with `export` in front. They are matched and assigned, never executed.
# tpu_pod.sh sources this file.

SETTINGS="PROJECT ZONE NAME ACCELERATOR RUNTIME CAPACITY CREATE BUCKET CORPUS NETWORK SUBNETWORK SERVICE_ACCOUNT"
REQUIRED="PROJECT ZONE NAME ACCELERATOR BUCKET"
LC_ALL=C  # so that [a-z] matches ASCII letters only

# Sets PATTERN to the pattern of a value of setting $1, and EXAMPLE to a value that matches it.
pattern_of() {
  case $1 in
    PROJECT) PATTERN='[a-z][a-z0-9-]{4,28}[a-z0-9]' EXAMPLE=my-project-123 ;;
    ZONE) PATTERN='[a-z]+-[a-z]+[0-9]+-[a-z]' EXAMPLE=us-central1-a ;;
    NAME) PATTERN='[a-z]([a-z0-9-]{0,38}[a-z0-9])?' EXAMPLE=my-pod ;;
    ACCELERATOR) PATTERN='(v2|v3|v4|v5litepod|v5p|v6e)-[1-9][0-9]{0,4}' EXAMPLE=v5litepod-16 ;;
    RUNTIME) PATTERN='[a-z0-9][a-z0-9.-]{2,60}' EXAMPLE=v2-alpha-tpuv5-lite ;;
    CAPACITY) PATTERN='on-demand|spot' EXAMPLE=spot ;;
    CREATE) PATTERN='direct|queued' EXAMPLE=queued ;;
    BUCKET) PATTERN='gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]' EXAMPLE=gs://my-bucket ;;
    CORPUS) PATTERN='gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)+' EXAMPLE=gs://my-bucket/corpus ;;
    NETWORK | SUBNETWORK) PATTERN='[a-z]([a-z0-9-]{0,61}[a-z0-9])?' EXAMPLE=default ;;
    SERVICE_ACCOUNT)
      PATTERN='[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com'
      EXAMPLE=trainer@my-project-123.iam.gserviceaccount.com ;;
  esac
}

# Prints the setting with the smallest edit distance to $1.
nearest_setting() {
  awk -v word="$1" -v known="$SETTINGS" '
    function distance(a, b,   i, j, d, cost) {
      for (i = 0; i <= length(a); i++) d[i, 0] = i
      for (j = 0; j <= length(b); j++) d[0, j] = j
      for (i = 1; i <= length(a); i++)
        for (j = 1; j <= length(b); j++) {
          cost = d[i - 1, j - 1] + (substr(a, i, 1) != substr(b, j, 1))
          if (d[i - 1, j] + 1 < cost) cost = d[i - 1, j] + 1
          if (d[i, j - 1] + 1 < cost) cost = d[i, j - 1] + 1
          d[i, j] = cost
        }
      return d[length(a), length(b)]
    }
    BEGIN {
      word = toupper(word)
      n = split(known, names, " ")
      for (k = 1; k <= n; k++)
        if (k == 1 || distance(word, names[k]) < least) { least = distance(word, names[k]); best = names[k] }
      print best
    }'
}

# Sets variable $1 to value $2 if the value matches the setting's pattern. $3: file and line, for the error.
assign_setting() {
  local key=$1 value=$2 place=$3
  if ! [[ $key =~ ^[A-Za-z_]{1,40}$ ]]; then
    fail "$place: $(printf %q "${key:0:40}") is not a setting; the settings are ${SETTINGS// /, }"
  fi
  case " $SETTINGS " in
    *" $key "*) ;;
    *) fail "$place: there is no setting $key; did you mean $(nearest_setting "$key")?" ;;
  esac
  [ -n "$value" ] || [[ " $REQUIRED " == *" $key "* ]] || return 0 # an empty optional setting counts as left out
  [ -z "${!key}" ] || fail "$place: $key is set twice; keep one of the two lines"
  pattern_of "$key"
  if ! [[ $value =~ ^($PATTERN)$ ]]; then
    fail "$place: $key cannot be $(printf %q "${value:0:80}"); use a value like $key=$EXAMPLE"
  fi
  printf -v "$key" %s "$value"
}

# Reads the env file $1 into the settings. Exits with an error that names the line if one is wrong.
read_settings() {
  local file=$1 line key value number=0 quotes='^"(.*)"$|^'"'(.*)'"'$'
  local pair='^[[:space:]]*([^=]*[^=[:space:]])?[[:space:]]*=[[:space:]]*(.*[^[:space:]])?[[:space:]]*$'
  [ -f "$file" ] ||
    fail "there is no file $file: copy launch/tpu_pod.env.example there and fill it in, or name your file with --env"
  for key in $SETTINGS; do printf -v "$key" %s ""; done
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%$'\r'}
    ((number > 1)) || line=${line#$'\xef\xbb\xbf'} # the byte order mark that editors of Windows put in front
    [[ $line =~ ^[[:space:]]*(#.*)?$ ]] && continue
    [[ $line =~ ^[[:space:]]*export[[:space:]]+(.*)$ ]] && line=${BASH_REMATCH[1]}
    [[ $line =~ $pair ]] || fail "$file line $number: $(printf %q "${line:0:40}") is not a NAME=VALUE line"
    key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ $value =~ ^([^#]*[^#[:space:]])[[:space:]]+#.*$ ]] && value=${BASH_REMATCH[1]}
    [[ $value =~ $quotes ]] && value=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    assign_setting "$key" "$value" "$file line $number"
  done <"$file"
  for key in $REQUIRED; do
    pattern_of "$key"
    [ -n "${!key}" ] || fail "$file does not set $key: add a line such as $key=$EXAMPLE"
  done
  CAPACITY=${CAPACITY:-on-demand} CREATE=${CREATE:-queued}
  derive_settings
}

# Sets the variables that follow from ACCELERATOR: CHIPS, HOSTS, KIND (JAX's name of the device) and, if it is not set,
# RUNTIME. Runtimes: https://docs.cloud.google.com/tpu/docs/runtimes
# Sizes: https://docs.cloud.google.com/tpu/docs/v5e and the pages of the other generations. The number in the name
# counts cores for v2 to v4 and v5p (two per chip), and chips for v5e and v6e. A host of a pod has four chips; v5e and
# v6e also come as one chip and as one host with eight.
derive_settings() {
  local count=${ACCELERATOR#*-}
  case $ACCELERATOR in
    v5litepod-1 | v6e-1) CHIPS=1 HOSTS=1 ;;
    v5litepod-* | v6e-*)
      CHIPS=$count HOSTS=$(((count + 3) / 4))
      if [ "$count" -le 8 ]; then HOSTS=1; fi
      [ $((count % 4)) = 0 ] || fail "there is no $ACCELERATOR: a host has 4 chips, so use 1 or a multiple of 4" ;;
    *)
      CHIPS=$((count / 2)) HOSTS=$((count / 8))
      [ $((count % 8)) = 0 ] || fail "there is no $ACCELERATOR: a host has 8 cores, so use a multiple of 8" ;;
  esac
  case $ACCELERATOR in
    v6e-*) KIND="TPU v6 lite" RUNTIME=${RUNTIME:-v2-alpha-tpuv6e} ;;
    v5p-*) KIND="TPU v5" RUNTIME=${RUNTIME:-v2-alpha-tpuv5} ;;
    v5litepod-*) KIND="TPU v5 lite" RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} ;;
    *) KIND="TPU ${ACCELERATOR%-*}" RUNTIME=${RUNTIME:-tpu-ubuntu2204-base} ;;
  esac
}
