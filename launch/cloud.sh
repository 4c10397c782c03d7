# shellcheck shell=bash disable=SC2034,SC2153
# Talking to Cloud: every gcloud call, and what its refusals mean. tpu_pod.sh sources this file.
# Commands: https://docs.cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm and .../tpus/queued-resources

# Runs gcloud with these words; with --dry-run prints them so that they can be pasted, and runs nothing.
cloud() {
  if [ -n "$DRY_RUN" ]; then
    shown gcloud "$@"
  else
    gcloud "$@" </dev/null 3>&-
  fi
}

# One line that a shell reads as these words.
shown() {
  local word
  for word in "$@"; do
    case $word in
      "" | *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")" ;;
      *) printf '%s ' "$word" ;;
    esac
  done
  printf '\n'
}

# The same for commands of this machine.
here() {
  if [ -n "$DRY_RUN" ]; then
    shown "$@"
  else
    "$@"
  fi
}

# Ends with a sentence unless gcloud is there and somebody is logged in.
check_gcloud() {
  [ -z "$DRY_RUN" ] || return 0
  command -v gcloud >/dev/null ||
    fail "gcloud is not installed: follow https://docs.cloud.google.com/sdk/docs/install, then run gcloud auth login"
  [ -n "$(gcloud auth list --filter=status:ACTIVE --format='value(account)' 2>/dev/null)" ] ||
    fail "gcloud is not logged in: run gcloud auth login"
}

# One sentence for what gcloud wrote into file $1: the fault as a person would say it, and the mend.
sentence() {
  local said
  said=$(grep -m 1 ERROR "$1" | cut -c 1-300) || :
  [ -n "$said" ] || said=$(tail -n 1 "$1" | cut -c 1-300)
  case $(cat "$1") in
    *"active account"* | *"auth login"* | *[Rr]eauthenticat*) echo "gcloud is not logged in: run gcloud auth login" ;;
    *"has not been used in project"* | *SERVICE_DISABLED* | *"it is disabled"*)
      echo "the TPU API is off in $PROJECT: run gcloud services enable tpu.googleapis.com --project=$PROJECT" ;;
    *"more capacity"* | *"nsufficient capacity"* | *"resources available"*)
      echo "$ZONE has no free $ACCELERATOR at the moment: wait for one with CREATE=queued, or try another zone" ;;
    *[Qq]uota*)
      echo "$PROJECT has no quota left for $CAPACITY $ACCELERATOR in $ZONE: ask for it at" \
        "https://console.cloud.google.com/iam-admin/quotas?project=$PROJECT (Cloud TPU API; spot and on-demand are" \
        "counted apart), or set a ZONE or CAPACITY that you have. Cloud says: $said" ;;
    *ALREADY_EXISTS* | *"already exists"*)
      echo "$NAME is there already: launch/tpu_pod.sh status shows it, delete ends it" ;;
    *"locations/$ZONE"*"may not exist"* | *"ocation $ZONE"*"not found"* | *"nvalid value"*zone* | *"nknown zone"*)
      echo "there is no zone $ZONE, or $PROJECT may not use it: see https://docs.cloud.google.com/tpu/docs/regions-zones" ;;
    *ccelerator*"not found"* | *ccelerator*"not available"* | *ccelerator*"not supported"* | *"nvalid accelerator"*)
      echo "$ZONE has no $ACCELERATOR: gcloud compute tpus accelerator-types list --zone=$ZONE --project=$PROJECT" \
        "lists what it has, https://docs.cloud.google.com/tpu/docs/regions-zones where yours is" ;;
    *PERMISSION_DENIED* | *"Permission"*denied*)
      echo "your account may not do this in $PROJECT: ask its owner for the role TPU Admin (roles/tpu.admin)." \
        "Cloud says: $said" ;;
    *) echo "Cloud refused: $said" ;;
  esac
}

# Sets STATE (ABSENT where there is none) and ADDRESSES, the hosts' internal ones in the order of their numbers.
# Returns 1 where Cloud does not say; the reason is then in $TMP/err.
look() {
  local found format='value(state,networkEndpoints[].ipAddress)'
  STATE=ABSENT ADDRESSES=()
  if [ -n "$DRY_RUN" ]; then
    cloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format="$format"
    printf '# ADDRESS-OF-WORKER-0 stands for the first address that this prints\n'
    STATE=READY ADDRESSES=(ADDRESS-OF-WORKER-0)
    while [ "${#ADDRESSES[@]}" -lt "$HOSTS" ]; do ADDRESSES+=(ADDRESS); done
  elif found=$(cloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format="$format" 2>"$TMP/err"); then
    STATE=${found%%$'\t'*}
    IFS=';' read -r -a ADDRESSES <<<"${found#*$'\t'}"
  elif ! { grep -q "nodes/$NAME" "$TMP/err" && grep -qiE 'not[_ ]found' "$TMP/err"; }; then
    return 1
  fi
}

# Sets REQUEST to the state of the queued resource; ABSENT where there is none. Returns 1 as `look` does.
look_at_request() {
  REQUEST=ABSENT
  if ! REQUEST=$(cloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" \
    --format='value(state.state)' 2>"$TMP/err"); then
    grep -qiE 'not[_ ]found' "$TMP/err" && grep -q "queuedResources/$NAME" "$TMP/err" || return 1
    REQUEST=ABSENT
  fi
}

# Ends with a sentence unless the pod is there with all its hosts.
need_ready() {
  look || fail "$(sentence "$TMP/err")"
  case $STATE in
    READY)
      [ "${#ADDRESSES[@]}" -eq "$HOSTS" ] || fail "$NAME has ${#ADDRESSES[@]} of $HOSTS hosts: it was only half" \
        "created; delete it and create it again" ;;
    ABSENT) fail "there is no pod $NAME in $ZONE: launch/tpu_pod.sh create makes one (a queued request may still wait:" \
      "launch/tpu_pod.sh status)" ;;
    PREEMPTED | TERMINATED) fail "Cloud has taken $NAME back ($STATE): watch makes it again and goes on; delete ends it" ;;
    CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING)
      fail "$NAME is not ready yet ($STATE): wait a few minutes; if it stays so, delete it and create it again" ;;
    *) fail "$NAME is $STATE and cannot be used: delete it and create it again" ;;
  esac
}

# Runs command $1 on all hosts at once, with WORKER in its environment; then $TMP/out.N, err.N and code.N are there.
# https://docs.cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm/ssh: its worker N is address N of `look`.
on_hosts() {
  local i code pids=()
  set -m # a process group each, so that gcloud and the ssh below it end together (interrupted)
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

# --quiet: the first connection of all makes a key, and would ask for a passphrase.
ssh_to() {
  cloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --quiet --worker="$1" --command="export WORKER=$1; $2"
}

# Says what each host complained of after `on_hosts`; returns 1 if one did.
all_well() {
  local i code bad=0
  [ -z "$DRY_RUN" ] || return 0
  for ((i = 0; i < HOSTS; i++)); do
    code=$(cat "$TMP/code.$i")
    [ "$code" = 0 ] && continue
    bad=1
    say "worker $i: $(host_fault "$i" "$code")"
  done
  return "$bad"
}

host_fault() {
  local said
  said=$(sed -n 's/^error: //p' "$TMP/err.$1" | tail -n 1)
  if [ -n "$said" ]; then
    echo "$said"
  elif [ "$2" = 255 ]; then
    echo "cannot be reached by ssh; try again, then see why with: gcloud compute tpus tpu-vm ssh $NAME" \
      "${PLACE[*]} --worker=$1 (a network without the rule default-allow-ssh needs one for tcp:22); a host that stays" \
      "out of reach means a broken pod: delete it and create it again"
  elif [ "$2" = 127 ]; then
    echo "is not set up: run launch/tpu_pod.sh setup"
  else
    echo "failed with code $2: $(tail -n 1 "$TMP/err.$1" | cut -c 1-300)"
  fi
}
