# shellcheck shell=bash disable=SC2034
# The env file: KEY=VALUE lines that are matched and assigned, never executed. tpu_pod.sh sources this file.

SETTINGS="PROJECT ZONE NAME ACCELERATOR RUNTIME CAPACITY CREATE BUCKET CORPUS NETWORK SUBNETWORK SERVICE_ACCOUNT"
NEEDED="PROJECT ZONE NAME ACCELERATOR BUCKET"
LC_ALL=C  # so that [a-z] means these letters and no others

# Sets PATTERN to what a value of setting $1 must look like, and EXAMPLE to one that does.
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

# Prints the setting that is spelled most like $1.
nearest() {
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

# Sets $1 to $2 if it is of that setting's form; $3 says where it stands.
set_one() {
  local key=$1 value=$2 where=$3
  if ! [[ $key =~ ^[A-Za-z_]{1,40}$ ]]; then
    fail "$where: $(printf %q "${key:0:40}") is no setting; the names are ${SETTINGS// /, }"
  fi
  case " $SETTINGS " in
    *" $key "*) ;;
    *) fail "$where: there is no setting $key; did you mean $(nearest "$key")?" ;;
  esac
  [ -n "$value" ] || [[ " $NEEDED " == *" $key "* ]] || return 0 # as if it were left out
  [ -z "${!key}" ] || fail "$where: $key is given twice; keep one of the two lines"
  pattern_of "$key"
  if ! [[ $value =~ ^($PATTERN)$ ]]; then
    fail "$where: $key cannot be $(printf %q "${value:0:80}"); give something like $key=$EXAMPLE"
  fi
  printf -v "$key" %s "$value"
}

# Reads the env file $1 into the settings, or exits with a sentence that names the line.
read_settings() {
  local file=$1 line key value number=0 quotes='^"(.*)"$|^'"'(.*)'"'$'
  local pair='^[[:space:]]*([^=]*[^=[:space:]])?[[:space:]]*=[[:space:]]*(.*[^[:space:]])?[[:space:]]*$'
  [ -f "$file" ] || fail "no $file: copy launch/tpu_pod.env.example there and fill it in, or name yours with --env"
  for key in $SETTINGS; do printf -v "$key" %s ""; done
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%$'\r'}
    [[ $line =~ ^[[:space:]]*(#.*)?$ ]] && continue
    [[ $line =~ $pair ]] || fail "$file line $number: $(printf %q "${line:0:40}") is no NAME=VALUE"
    key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ $value =~ ^([^#]*[^#[:space:]])[[:space:]]+#.*$ ]] && value=${BASH_REMATCH[1]}
    [[ $value =~ $quotes ]] && value=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    set_one "$key" "$value" "$file line $number"
  done <"$file"
  for key in $NEEDED; do
    pattern_of "$key"
    [ -n "${!key}" ] || fail "$file gives no $key: add a line such as $key=$EXAMPLE"
  done
  CAPACITY=${CAPACITY:-on-demand} CREATE=${CREATE:-queued}
  derive
}

# Sets what follows from ACCELERATOR: RUNTIME where it is not given, CHIPS, HOSTS, and KIND, as JAX calls a device.
# Runtimes: https://docs.cloud.google.com/tpu/docs/runtimes. Sizes: https://docs.cloud.google.com/tpu/docs/v5e and
# its neighbours: v2 to v4 and v5p count cores, two a chip, v5e and v6e chips. A host of a pod has four chips; v5e and
# v6e also come as one chip and as one host of eight.
derive() {
  local count=${ACCELERATOR#*-}
  case $ACCELERATOR in
    v5litepod-1 | v6e-1) CHIPS=1 HOSTS=1 ;;
    v5litepod-* | v6e-*)
      CHIPS=$count HOSTS=$(((count + 3) / 4))
      if [ "$count" -le 8 ]; then HOSTS=1; fi
      [ $((count % 4)) = 0 ] || fail "there is no $ACCELERATOR: hosts have 4 chips, so give 1 or a multiple of 4" ;;
    *)
      CHIPS=$((count / 2)) HOSTS=$((count / 8))
      [ $((count % 8)) = 0 ] || fail "there is no $ACCELERATOR: hosts have 8 cores, so give a multiple of 8" ;;
  esac
  case $ACCELERATOR in
    v6e-*) KIND="TPU v6 lite" RUNTIME=${RUNTIME:-v2-alpha-tpuv6e} ;;
    v5p-*) KIND="TPU v5" RUNTIME=${RUNTIME:-v2-alpha-tpuv5} ;;
    v5litepod-*) KIND="TPU v5 lite" RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} ;;
    *) KIND="TPU ${ACCELERATOR%-*}" RUNTIME=${RUNTIME:-tpu-ubuntu2204-base} ;;
  esac
}
