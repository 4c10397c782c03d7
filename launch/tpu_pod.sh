#!/usr/bin/env bash
# Runs pretraining on one TPU pod, from a laptop:
#   launch/tpu_pod.sh create                             create the pod; it costs money from then until delete
#   launch/tpu_pod.sh setup                              copy the commit and install Python and the pinned packages
#   launch/tpu_pod.sh doctor                             check chips, versions, port, clocks and bucket
#   launch/tpu_pod.sh run [--no-doctor] -- ARG...        start python -m bert_tpu.pretrain ARG... on all hosts, detached
#   launch/tpu_pod.sh status                             print the pod's state and the last line of each host's log
#   launch/tpu_pod.sh logs [--no-follow]                 print the logs of all hosts
#   launch/tpu_pod.sh watch [--no-doctor] -- ARG...      keep the same run alive until it has finished
#   launch/tpu_pod.sh stop                               save a checkpoint and end the run; the pod stays
#   launch/tpu_pod.sh delete [--yes]                     delete the pod, which ends its costs; the bucket stays
# Every command takes --env FILE (default launch/tpu_pod.env) and --dry-run, which prints the cloud commands and runs
# none of them.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # for the sourced files
REPO=$(dirname "$HERE")
DRY_RUN="" YES="" NO_DOCTOR="" NO_FOLLOW="" STARTING="" WATCHING="" COMMAND=""
LOCAL_PYTHON=${PYTHON:-python3}
# Seconds between two looks at the pod, and before the first look at a new run. Tests shorten them.
POLL_S=${TPU_POD_POLL_S:-60} SETTLE_S=${TPU_POD_SETTLE_S:-10}

# Prints a message, but not in a dry run: nothing happens there, so the message would be wrong.
say() {
  [ -n "$DRY_RUN" ] || printf '%s\n' "$*" >&2
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# shellcheck source=launch/settings.sh
. "$HERE/settings.sh"
# shellcheck source=launch/cloud.sh
. "$HERE/cloud.sh"
# shellcheck source=launch/hosts.sh
. "$HERE/hosts.sh"
# shellcheck source=launch/watch.sh
. "$HERE/watch.sh"

# Handles Ctrl-C and SIGTERM: stops a run that was just being started, and prints what still exists and costs money.
interrupted() {
  trap '' INT TERM
  exec 2>&3 # the interrupted command may have redirected it
  local pid pids
  pids=$(jobs -p)
  disown -a || : # otherwise bash prints "Terminated" for each job
  for pid in $pids; do kill -- "-$pid" 2>/dev/null || :; done # each job leads its own process group
  say ""
  if [ -n "$STARTING" ]; then
    say "interrupted while the run was starting: stopping it on every host"
    stop_hosts by-hand
    sleep 2 # a host that was about to start has started by then
    stop_hosts by-hand
  fi
  case $COMMAND in
    create) say "interrupted: Google Cloud may still create $NAME, and it costs money from then on" ;;
    delete) say "interrupted: Google Cloud may or may not have deleted $NAME; it costs money as long as it exists" ;;
    logs) exit 130 ;;
    watch) say "watch has ended: a run on the hosts continues, and $NAME costs money as long as it exists" ;;
    *) say "interrupted: $NAME costs money as long as it exists" ;;
  esac
  say "launch/tpu_pod.sh status prints what exists, launch/tpu_pod.sh delete deletes it"
  exit 130
}

# Creates the pod. A queued request is waited for, but not by watch, which waits in its own loop.
# Returns 1, with the reason in $TMP/err, if Google Cloud refuses.
# https://docs.cloud.google.com/tpu/docs/queued-resources; a node and its request have the same name.
create_pod() {
  local options=("${PLACE[@]}" "--accelerator-type=$ACCELERATOR")
  [ "$CAPACITY" = on-demand ] || options+=(--spot)
  [ -z "$NETWORK" ] || options+=("--network=$NETWORK")
  [ -z "$SUBNETWORK" ] || options+=("--subnetwork=$SUBNETWORK")
  # With this scope the service account's roles alone limit what the hosts may do:
  # https://docs.cloud.google.com/compute/docs/access/service-accounts#scopes_best_practice
  options+=(--scopes=https://www.googleapis.com/auth/cloud-platform)
  [ -z "$SERVICE_ACCOUNT" ] || options+=("--service-account=$SERVICE_ACCOUNT")
  if [ "$CREATE" = direct ]; then
    cloud compute tpus tpu-vm create "$NAME" "${options[@]}" --version="$RUNTIME" 2>"$TMP/err" || return 1
  else
    cloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${options[@]}" \
      --runtime-version="$RUNTIME" 2>"$TMP/err" || return 1
    [ -n "$DRY_RUN$WATCHING" ] || await_request || return 1
  fi
}

# Waits for the queued request. Returns 1, with the reason in $TMP/err, if it ends without a pod. A network that fails
# for a moment is waited for, too.
await_request() {
  local previous="" no_answers=0
  while :; do
    if ! read_request; then
      no_answers=$((no_answers + 1))
      [ "$no_answers" -lt "$MAX_NO_ANSWERS" ] || fail "no answer $MAX_NO_ANSWERS times in a row" \
        "($(explain_error "$TMP/err")). The request for $NAME waits in Google Cloud: it may become a pod, which costs" \
        "money from then on. launch/tpu_pod.sh status prints its state, delete removes it"
      say "$(explain_error "$TMP/err"); asking again"
      sleep "$POLL_S"
      continue
    fi
    no_answers=0
    [ "$REQUEST" = "$previous" ] || say "the request for $NAME: $REQUEST"
    previous=$REQUEST
    case $REQUEST in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | ABSENT)
        echo "ERROR: the request for $NAME ended as $REQUEST; gcloud compute tpus queued-resources describe $NAME" \
          "${PLACE[*]} prints the reason, and launch/tpu_pod.sh delete removes the request" >"$TMP/err"
        return 1 ;;
    esac
    sleep "$POLL_S"
  done
}

create() {
  local pod
  if [ -z "$DRY_RUN" ]; then
    read_pod || fail "$(explain_error "$TMP/err")"
    [ "$STATE" = ABSENT ] ||
      fail "$NAME exists already ($STATE): launch/tpu_pod.sh status prints its state, delete deletes it"
    read_request || fail "$(explain_error "$TMP/err")"
    [ "$REQUEST" = ABSENT ] ||
      fail "a request for $NAME is in Google Cloud's queue already ($REQUEST): wait for it, or delete it first"
  fi
  pod="$NAME: $ACCELERATOR ($CHIPS chips on $HOSTS hosts), $CAPACITY, in $ZONE"
  [ -z "$DRY_RUN" ] || printf '# %s\n' "$pod" >&2
  say "asking Google Cloud for $pod; this takes minutes"
  create_pod || fail "$(explain_error "$TMP/err")"
  require_ready
  say "$NAME is ready and costs money until launch/tpu_pod.sh delete; next: launch/tpu_pod.sh setup"
}

# Deletes the request and the node, whichever there are: CREATE may have changed since they were made. Returns 1, with
# the reason in $TMP/err, if that fails.
delete_pod() {
  if [ "$CREATE" = queued ]; then
    delete_one queued-resources --force || return 1 # together with its node
    [ -n "$DRY_RUN" ] || delete_one tpu-vm
  else
    delete_one tpu-vm || return 1
    [ -n "$DRY_RUN" ] || delete_one queued-resources --force
  fi
}

delete_one() {
  cloud compute tpus "$1" delete "$NAME" "${PLACE[@]}" "${@:2}" --quiet 2>"$TMP/err" ||
    grep -qiE 'not[_ ]found' "$TMP/err"
}

delete() {
  local answer="" state
  if [ -z "$DRY_RUN" ]; then
    read_pod || fail "$(explain_error "$TMP/err")"
    state=$STATE
    read_request || fail "$(explain_error "$TMP/err")"
    [ "$state" != ABSENT ] || state=$REQUEST
    if [ "$state" = ABSENT ]; then
      say "there is no pod $NAME in $ZONE: nothing to delete, nothing costs money"
      return
    fi
    if [ -z "$YES" ]; then
      printf 'Delete %s in %s (%s) and any run on it? The bucket stays. [y/N] ' "$NAME" "$ZONE" "$state" >&2
      read -r answer || :
      case $answer in
        y | Y | yes) ;;
        *)
          say ""
          fail "nothing was deleted; answer y, or use --yes in a script" ;;
      esac
    fi
  fi
  delete_pod || fail "$(explain_error "$TMP/err")"
  [ -n "$DRY_RUN" ] || say "$NAME is deleted; the objects in $BUCKET stay and cost money until you delete them too"
}

usage() {
  sed -n '2,/^set -/s/^# \{0,1\}//p' "$HERE/tpu_pod.sh"
}

main() {
  local file=$HERE/tpu_pod.env
  COMMAND=${1:-}
  case $COMMAND in
    create | setup | doctor | run | status | logs | watch | stop | delete) shift ;;
    "" | -h | --help | help) usage; exit 0 ;;
    *) fail "there is no command $COMMAND; launch/tpu_pod.sh --help lists the commands" ;;
  esac
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) DRY_RUN=yes ;;
      --yes) YES=yes ;;
      --no-doctor) NO_DOCTOR=yes ;;
      --no-follow) NO_FOLLOW=--no-follow ;;
      --env) [ -n "${2:-}" ] || fail "--env needs a file"; file=$2; shift ;;
      --env=) fail "--env needs a file" ;;
      --env=*) file=${1#--env=} ;;
      --) shift; break ;;
      -h | --help) usage; exit 0 ;;
      *) fail "$COMMAND has no option $1; put the arguments for pretraining after --, and see --help for the options" ;;
    esac
    shift
  done
  case $COMMAND in
    run | watch)
      for word; do
        case $word in
          --dry-run | --no-doctor | --env | --env=*) fail "$word is an option of $COMMAND: put it before --" ;;
        esac
      done ;;
    *) [ $# -eq 0 ] || fail "$COMMAND takes no arguments after --" ;;
  esac
  read_settings "$file"
  PLACE=("--zone=$ZONE" "--project=$PROJECT")
  TMP=$(mktemp -d)
  trap 'rm -rf "$TMP"' EXIT
  exec 3>&2
  trap interrupted INT TERM
  check_gcloud
  "$COMMAND" "$@"
}

main "$@"
