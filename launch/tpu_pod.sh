#!/usr/bin/env bash
# One TPU pod, from a laptop:
#   launch/tpu_pod.sh create                                 make it: costs money from then until delete
#   launch/tpu_pod.sh setup                                  ship the commit, Python and the pinned packages to each host
#   launch/tpu_pod.sh doctor                                 chips, versions, port, clocks, bucket: fit for a run?
#   launch/tpu_pod.sh run [--no-doctor] -- WORD...           python -m bert_tpu.pretrain WORD... on all hosts, detached
#   launch/tpu_pod.sh status                                 the pod, and the last line of each host's run
#   launch/tpu_pod.sh logs [--no-follow]                     what every host says
#   launch/tpu_pod.sh watch -- WORD...                       the same run kept alive until it has finished
#   launch/tpu_pod.sh stop                                   save and end the run; the pod stays
#   launch/tpu_pod.sh delete [--yes]                         end the pod and its costs; the bucket stays
# Each takes --env FILE (default launch/tpu_pod.env) and --dry-run, which prints every cloud command and runs none.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # for the sourced files
REPO=$(dirname "$HERE")
DRY_RUN="" YES="" NO_DOCTOR="" NO_FOLLOW="" STARTING="" WATCHING="" COMMAND=""
LOCAL_PYTHON=${PYTHON:-python3}
# Seconds between two looks, and before the first look at a run; tests shorten them.
POLL_S=${TPU_POD_POLL_S:-60} SETTLE_S=${TPU_POD_SETTLE_S:-10}

# Nothing is so in a dry run, whose commands say enough.
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

# What an interruption leaves behind, in words; what this script itself has begun on the hosts is taken back.
interrupted() {
  trap '' INT TERM
  exec 2>&3 # the command that was interrupted may have led it elsewhere
  local pid pids
  pids=$(jobs -p)
  disown -a || : # or bash tells of each that it was terminated
  for pid in $pids; do kill -- "-$pid" 2>/dev/null || :; done # each leads a group of its own
  say ""
  if [ -n "$STARTING" ]; then
    say "interrupted while the run was starting: stopping it on every host"
    stop_hosts by-hand
    sleep 2 # a host that was just about to start has done so by then
    stop_hosts by-hand
  fi
  case $COMMAND in
    create) say "interrupted: Cloud may go on making $NAME, and it costs money once it is there" ;;
    delete) say "interrupted: Cloud may or may not have deleted $NAME; while it is there it costs money" ;;
    logs) exit 130 ;;
    watch) say "no longer watching: a run on the hosts goes on by itself, and $NAME costs money while it is there" ;;
    *) say "interrupted: $NAME costs money while it is there" ;;
  esac
  say "launch/tpu_pod.sh status shows what exists, launch/tpu_pod.sh delete ends it"
  exit 130
}

# Asks Cloud for the pod, and waits until it is there (watch waits by itself). Returns 1 with the reason in $TMP/err where Cloud refuses.
# https://docs.cloud.google.com/tpu/docs/queued-resources; a node and its request share the name.
make_pod() {
  local words=("${PLACE[@]}" "--accelerator-type=$ACCELERATOR")
  [ "$CAPACITY" = on-demand ] || words+=(--spot)
  [ -z "$NETWORK" ] || words+=("--network=$NETWORK")
  [ -z "$SUBNETWORK" ] || words+=("--subnetwork=$SUBNETWORK")
  # What the hosts may do is then up to the service account's roles alone:
  # https://docs.cloud.google.com/compute/docs/access/service-accounts#scopes_best_practice
  words+=(--scopes=https://www.googleapis.com/auth/cloud-platform)
  [ -z "$SERVICE_ACCOUNT" ] || words+=("--service-account=$SERVICE_ACCOUNT")
  if [ "$CREATE" = direct ]; then
    cloud compute tpus tpu-vm create "$NAME" "${words[@]}" --version="$RUNTIME" 2>"$TMP/err" || return 1
  else
    cloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${words[@]}" \
      --runtime-version="$RUNTIME" 2>"$TMP/err" || return 1
    [ -n "$DRY_RUN$WATCHING" ] || await_request || return 1
  fi
}

# Waits for the queued request. Returns 1, with the reason in $TMP/err, if it ends without a pod.
await_request() {
  local told=""
  while :; do
    look_at_request || return 1
    [ "$REQUEST" = "$told" ] || say "the request for $NAME: $REQUEST"
    told=$REQUEST
    case $REQUEST in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | ABSENT)
        echo "ERROR: the request for $NAME ended as $REQUEST; gcloud compute tpus queued-resources describe $NAME" \
          "${PLACE[*]} says why, and launch/tpu_pod.sh delete clears it away" >"$TMP/err"
        return 1 ;;
    esac
    sleep "$POLL_S"
  done
}

create() {
  local what
  if [ -z "$DRY_RUN" ]; then
    look || fail "$(sentence "$TMP/err")"
    [ "$STATE" = ABSENT ] || fail "$NAME is there already ($STATE): launch/tpu_pod.sh status shows it, delete ends it"
    [ "$CREATE" = direct ] || look_at_request || fail "$(sentence "$TMP/err")"
    [ "$CREATE" = direct ] || [ "$REQUEST" = ABSENT ] ||
      fail "a request for $NAME is in Cloud's queue already ($REQUEST): wait for it, or delete it first"
  fi
  what="$NAME: $ACCELERATOR ($CHIPS chips on $HOSTS hosts), $CAPACITY, in $ZONE"
  [ -z "$DRY_RUN" ] || printf '# %s\n' "$what" >&2
  say "asking Cloud for $what; this takes minutes"
  make_pod || fail "$(sentence "$TMP/err")"
  need_ready
  say "$NAME is there and costs money until launch/tpu_pod.sh delete; next: launch/tpu_pod.sh setup"
}

# Deletes the node, and its request where there is one. Returns 1 with the reason in $TMP/err.
remove_pod() {
  if [ "$CREATE" = queued ]; then
    # --force: with the node that belongs to it.
    cloud compute tpus queued-resources delete "$NAME" "${PLACE[@]}" --force --quiet 2>"$TMP/err" && return
  else
    cloud compute tpus tpu-vm delete "$NAME" "${PLACE[@]}" --quiet 2>"$TMP/err" && return
  fi
  grep -qiE 'not[_ ]found' "$TMP/err"
}

delete() {
  local answer="" exists
  if [ -z "$DRY_RUN" ]; then
    look || fail "$(sentence "$TMP/err")"
    exists=$STATE
    if [ "$CREATE" = queued ]; then
      look_at_request || fail "$(sentence "$TMP/err")"
      [ "$exists" != ABSENT ] || exists=$REQUEST
    fi
    if [ "$exists" = ABSENT ]; then
      say "there is no pod $NAME in $ZONE: nothing to delete, nothing costs"
      return
    fi
    if [ -z "$YES" ]; then
      printf 'Delete %s in %s (%s) and whatever runs on it? The bucket stays. [y/N] ' "$NAME" "$ZONE" "$exists" >&2
      read -r answer || :
      case $answer in
        y | Y | yes) ;;
        *)
          say ""
          fail "nothing was deleted; answer y, or give --yes in a script" ;;
      esac
    fi
  fi
  remove_pod || fail "$(sentence "$TMP/err")"
  [ -n "$DRY_RUN" ] || say "$NAME is deleted; what lies in $BUCKET stays, and is paid for until you delete it too"
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
    *) fail "there is no command $COMMAND; launch/tpu_pod.sh --help lists them" ;;
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
      *) fail "$COMMAND takes no $1; what pretraining is to get comes after --, and --help lists the options" ;;
    esac
    shift
  done
  case $COMMAND in
    run | watch)
      for word; do
        case $word in --dry-run | --no-doctor | --env | --env=*) fail "$word is for $COMMAND: give it before --" ;; esac
      done ;;
    *) [ $# -eq 0 ] || fail "$COMMAND takes nothing after --" ;;
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
