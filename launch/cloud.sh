# shellcheck shell=bash disable=SC2034,SC2153
# Talks to Google Cloud: every gcloud call, and an explanation of each refusal. tpu_pod.sh sources this file.
# Commands: https://docs.cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm and .../tpus/queued-resources

# Runs gcloud with these arguments. With --dry-run, only prints the command, quoted for pasting.
cloud() {
  if [ -n "$DRY_RUN" ]; then
    print_command gcloud "$@"
  else
    gcloud "$@" </dev/null 3>&-
  fi
}

# Prints a command as one line that a shell splits into the same arguments.
print_command() {
  local word
  for word in "$@"; do
    case $word in
      "" | *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")" ;;
      *) printf '%s ' "$word" ;;
    esac
  done
  printf '\n'
}

# Runs a command on this machine. With --dry-run, only prints it.
local_command() {
  if [ -n "$DRY_RUN" ]; then
    print_command "$@"
  else
    "$@"
  fi
}

# Exits with an error unless gcloud is installed and logged in.
check_gcloud() {
  [ -z "$DRY_RUN" ] || return 0
  command -v gcloud >/dev/null ||
    fail "gcloud is not installed: follow https://docs.cloud.google.com/sdk/docs/install, then run gcloud auth login"
  [ -n "$(gcloud auth list --filter=status:ACTIVE --format='value(account)' 2>/dev/null)" ] ||
    fail "gcloud is not logged in: run gcloud auth login"
}

# Prints one sentence that explains the error which gcloud wrote to file $1, and how to fix it.
explain_error() {
  local message
  message=$(grep -m 1 ERROR "$1" | cut -c 1-300) || :
  [ -n "$message" ] || message=$(tail -n 1 "$1" | cut -c 1-300)
  case $(cat "$1") in
    *"active account"* | *"auth login"* | *[Rr]eauthenticat*) echo "gcloud is not logged in: run gcloud auth login" ;;
    *"has not been used in project"* | *SERVICE_DISABLED* | *"it is disabled"*)
      echo "the TPU API is off in $PROJECT: run gcloud services enable tpu.googleapis.com --project=$PROJECT" ;;
    *"more capacity"* | *"nsufficient capacity"* | *"resources available"*)
      echo "$ZONE has no free $ACCELERATOR at the moment: wait for one with CREATE=queued, or try another zone" ;;
    *[Qq]uota*)
      echo "$PROJECT has no quota left for $CAPACITY $ACCELERATOR in $ZONE: request more at" \
        "https://console.cloud.google.com/iam-admin/quotas?project=$PROJECT (Cloud TPU API; spot and on-demand have" \
        "separate quotas), or set ZONE or CAPACITY to one with quota. Google Cloud's message: $message" ;;
    *ALREADY_EXISTS* | *"already exists"*)
      echo "$NAME exists already: see it with launch/tpu_pod.sh status, or delete it with launch/tpu_pod.sh delete" ;;
    *"locations/$ZONE"*"may not exist"* | *"ocation $ZONE"*"not found"* | *"nvalid value"*zone* | *"nknown zone"*)
      echo "there is no zone $ZONE, or $PROJECT may not use it:" \
        "see https://docs.cloud.google.com/tpu/docs/regions-zones" ;;
    *ccelerator*"not found"* | *ccelerator*"not available"* | *ccelerator*"not supported"* | *"nvalid accelerator"*)
      echo "$ZONE has no $ACCELERATOR: gcloud compute tpus accelerator-types list --zone=$ZONE --project=$PROJECT" \
        "lists the types there, https://docs.cloud.google.com/tpu/docs/regions-zones lists the zones of each type" ;;
    *PERMISSION_DENIED* | *"Permission"*denied*)
      echo "your account may not do this in $PROJECT: ask its owner for the role TPU Admin (roles/tpu.admin)." \
        "Google Cloud's message: $message" ;;
    *) echo "Google Cloud refused: $message" ;;
  esac
}

# Sets STATE (ABSENT if there is no pod) and ADDRESSES, the hosts' internal addresses in the order of their numbers.
# Returns 1 if gcloud fails; the reason is then in $TMP/err.
read_pod() {
  local answer format='value(state,networkEndpoints[].ipAddress)'
  STATE=ABSENT ADDRESSES=()
  if [ -n "$DRY_RUN" ]; then
    cloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format="$format"
    printf '# replace ADDRESS-OF-WORKER-0 below with the first address that this prints\n'
    STATE=READY ADDRESSES=(ADDRESS-OF-WORKER-0)
    while [ "${#ADDRESSES[@]}" -lt "$HOSTS" ]; do ADDRESSES+=(ADDRESS); done
  elif answer=$(cloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format="$format" 2>"$TMP/err"); then
    STATE=${answer%%$'\t'*}
    IFS=';' read -r -a ADDRESSES <<<"${answer#*$'\t'}"
  elif ! { grep -q "nodes/$NAME" "$TMP/err" && grep -qiE 'not[_ ]found' "$TMP/err"; }; then
    return 1
  fi
}

# Sets REQUEST to the state of the queued resource (ABSENT if there is none). Returns 1 as read_pod does.
read_request() {
  REQUEST=ABSENT
  if ! REQUEST=$(cloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" \
    --format='value(state.state)' 2>"$TMP/err"); then
    grep -qiE 'not[_ ]found' "$TMP/err" && grep -q "queuedResources/$NAME" "$TMP/err" || return 1
    REQUEST=ABSENT
  fi
}

# Exits with an error unless the pod is ready with all its hosts.
require_ready() {
  read_pod || fail "$(explain_error "$TMP/err")"
  case $STATE in
    READY)
      [ "${#ADDRESSES[@]}" -eq "$HOSTS" ] || fail "$NAME has ${#ADDRESSES[@]} of $HOSTS hosts: it was only half" \
        "created; delete it and create it again" ;;
    ABSENT) fail "there is no pod $NAME in $ZONE: create it with launch/tpu_pod.sh create, unless launch/tpu_pod.sh" \
      "status reports a request that still waits" ;;
    PREEMPTED | TERMINATED)
      fail "Google Cloud has taken $NAME back ($STATE): watch creates it again and continues the run, delete removes" \
        "it" ;;
    CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING)
      fail "$NAME is not ready yet ($STATE): wait a few minutes; if it stays so, delete it and create it again" ;;
    *) fail "$NAME is $STATE and cannot be used: delete it and create it again" ;;
  esac
}

# Runs command $1 on all hosts at once, with WORKER in its environment, and waits for all. Afterwards $TMP/out.N, err.N
# and code.N have the output, errors and exit code of worker N, whose address is number N of ADDRESSES:
# https://docs.cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm/ssh
run_on_hosts() {
  local i code pids=()
  set -m # one process group for each, so that `interrupted` ends gcloud together with its ssh
  for ((i = 0; i < HOSTS; i++)); do
    if [ -n "$DRY_RUN" ]; then
      ssh_to "$i" "$1"
    else
      ssh_to "$i" "$1" >"$TMP/out.$i" 2>"$TMP/err.$i" &
      pids+=($!)
    fi
  done
  set +m
  for ((i = 0; i < ${#pids[@]}; i++)); do
    wait "${pids[$i]}" && code=0 || code=$?
    echo "$code" >"$TMP/code.$i"
  done
}

# Runs command $2 on worker $1. --quiet: the very first connection creates an ssh key, and would ask for a passphrase.
ssh_to() {
  cloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --quiet --worker="$1" --command="export WORKER=$1; $2"
}

# Prints the error of each host on which the last run_on_hosts failed. Returns 1 if there is one.
report_failures() {
  local i code failed=0
  [ -z "$DRY_RUN" ] || return 0
  for ((i = 0; i < HOSTS; i++)); do
    code=$(cat "$TMP/code.$i")
    [ "$code" = 0 ] && continue
    failed=1
    say "worker $i: $(host_error "$i" "$code")"
  done
  return "$failed"
}

# Prints one sentence that explains why worker $1 failed with exit code $2.
host_error() {
  local message
  message=$(sed -n 's/^error: //p' "$TMP/err.$1" | tail -n 1)
  if [ -n "$message" ]; then
    echo "$message"
  elif [ "$2" = 255 ]; then
    echo "cannot be reached by ssh; try again. To see the reason: gcloud compute tpus tpu-vm ssh $NAME" \
      "${PLACE[*]} --worker=$1 (a network without the rule default-allow-ssh needs a rule for tcp:22). If the host" \
      "stays out of reach, the pod is broken: delete it and create it again"
  elif [ "$2" = 127 ]; then
    echo "is not set up: run launch/tpu_pod.sh setup"
  else
    echo "failed with code $2: $(tail -n 1 "$TMP/err.$1" | cut -c 1-300)"
  fi
}
