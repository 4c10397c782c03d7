# shellcheck shell=bash disable=SC2034,SC2153
# Keeping one run alive: looks at the pod and its hosts, and brings back what is missing. tpu_pod.sh sources this file.
#
# The same words start the run each time, so it goes on in its workdir from the newest checkpoint; bert_tpu refuses to
# overwrite a newer one, and a host refuses a second run beside one that lives.

SOUND_S=600     # a run that lived this long was no failure of its words
FAILED_MOST=3   # failures in a row
BLIND_MOST=10   # looks in a row at which Cloud or a host gave no answer
WAITED_MOST=300 # looks in a row at a pod that is neither ready nor gone, and tries to get one while a zone is full

note() {
  say "$(date '+%d %b %H:%M')  $*"
}

watch() {
  run_words "$@"
  COMMIT=$(git -C "$REPO" rev-parse HEAD 2>/dev/null) || fail "$REPO is no git checkout: clone the repository with git"
  if [ -n "$DRY_RUN" ]; then
    watch_dry
    return
  fi
  WATCHING=yes OURS="" SEEN="" TOLD="" BLIND=0 WAITED=0 MIXED=0 FAILED=0
  while :; do
    watch_once
    # Twice as long after each failure, up to sixteen times.
    sleep "$(awk -v s="$POLL_S" -v n=$((FAILED + BLIND < 4 ? FAILED + BLIND : 4)) 'BEGIN { print s * 2 ^ n }')"
  done
}

watch_dry() {
  need_ready
  ask_hosts
  printf '# after a preemption:\n' >&2
  remove_pod
  make_pod
  setup_hosts "$COMMIT"
  doctor_hosts
  start_hosts
}

watch_once() {
  look || { blind "$(sentence "$TMP/err")"; return; }
  case $STATE in
    READY) tend_run ;;
    PREEMPTED | TERMINATED)
      note "Cloud has taken $NAME back ($STATE)"
      make_again ;;
    ABSENT) tend_absence ;;
    STOPPED | STOPPING | HIDDEN | HIDING)
      fail "$NAME is $STATE by somebody's hand: gcloud compute tpus tpu-vm start $NAME ${PLACE[*]}, then watch again" ;;
    *) waiting "$NAME is $STATE" ;;
  esac
}

# Something did not answer; after many times in a row that is the end.
blind() {
  BLIND=$((BLIND + 1))
  note "$1"
  [ "$BLIND" -lt "$BLIND_MOST" ] || fail "no answer $BLIND_MOST times in a row; $NAME may still run and cost money:" \
    "launch/tpu_pod.sh status, then watch again or delete"
}

waiting() {
  WAITED=$((WAITED + 1))
  [ "$1" = "$TOLD" ] || note "$1"
  TOLD=$1
  [ "$WAITED" -lt "$WAITED_MOST" ] || fail "$1, and no change after $WAITED_MOST looks: delete the pod and create it again"
}

# There is no node: still queued, taken by Cloud, deleted here on the way to a new one, or deleted by somebody.
tend_absence() {
  if [ "$CREATE" = queued ]; then
    look_at_request || { blind "$(sentence "$TMP/err")"; return; }
    case $REQUEST in
      ABSENT) ;;
      FAILED | SUSPENDED | SUSPENDING)
        note "Cloud has ended the request for $NAME ($REQUEST)"
        make_again
        return ;;
      *)
        waiting "the request for $NAME: $REQUEST"
        return ;;
    esac
  fi
  [ -n "$OURS" ] || fail "there is no pod $NAME, and watch did not delete it: nothing runs and nothing costs." \
    "launch/tpu_pod.sh create makes one"
  make_again
}

# A new pod in place of the one that was lost. A full zone is waited for; any other refusal counts as a failure.
make_again() {
  OURS=yes SEEN=""
  remove_pod || { failed_once "$(sentence "$TMP/err")"; return; }
  note "asking for $NAME again"
  if make_pod; then
    WAITED=0
    return
  fi
  local why
  why=$(sentence "$TMP/err")
  case $why in
    *"no free"*) waiting "$why" ;;
    *) failed_once "$why" ;;
  esac
}

failed_once() {
  FAILED=$((FAILED + 1))
  note "$1"
  [ "$FAILED" -lt "$FAILED_MOST" ] || fail "this was failure $FAILED in a row, so watch gives up; what exists costs" \
    "money: launch/tpu_pod.sh logs says more, delete ends it"
}

# The pod stands: its run goes on, has ended, or has to be started.
tend_run() {
  [ "${#ADDRESSES[@]}" -eq "$HOSTS" ] || { waiting "$NAME has ${#ADDRESSES[@]} of $HOSTS hosts"; return; }
  OURS="" WAITED=0
  ask_hosts || :
  count_hosts unknown
  if [ "$COUNTED" -gt 0 ]; then
    blind "$COUNTED of $HOSTS hosts do not answer: $(lines_of unknown)"
    return
  fi
  BLIND=0
  count_hosts running
  if [ "$COUNTED" -gt 0 ]; then
    tend_living "$COUNTED"
    return
  fi
  MIXED=0
  count_hosts finished
  if [ "$COUNTED" = "$HOSTS" ] && ours_all; then
    note "the run has finished: $(lines_of finished)"
    say "$NAME is idle now and costs money until launch/tpu_pod.sh delete"
    exit 0
  fi
  if [ -n "$SEEN" ]; then
    tend_dead
  fi
  begin_run
}

# $1 hosts run. All must be ours; where only some do, the others have died and these end by themselves, or are ended.
tend_living() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_STATE[$i]}" != running ] || [ "${RUN_SUM[$i]}" = "$WORDS_SUM" ] ||
      fail "another run is alive on $NAME, with other words or another compile cache: give watch the words of that" \
        "run, or end it with launch/tpu_pod.sh stop"
  done
  SEEN=yes
  if [ "$1" = "$HOSTS" ]; then
    MIXED=0
    [ "${RUN_SECONDS[0]}" -lt "$SOUND_S" ] || FAILED=0
    [ "${RUN_LINE[0]}" = "$TOLD" ] || note "${RUN_LINE[0]}"
    TOLD=${RUN_LINE[0]}
    return
  fi
  MIXED=$((MIXED + 1))
  if [ "$MIXED" -ge 3 ]; then
    note "only $1 of $HOSTS hosts still run: stopping them, to start all again"
    stop_hosts by-watch
  fi
}

# A run that watch has seen alive is not: by hand, which ends the watch, or by a fault, which counts.
tend_dead() {
  local i longest=0
  SEEN=""
  count_hosts stopped
  [ "$COUNTED" = 0 ] || fail "the run was stopped with launch/tpu_pod.sh stop, so watch ends too; $NAME costs money" \
    "until it is deleted, and the same watch command goes on from the last checkpoint"
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_SECONDS[$i]}" -le "$longest" ] || longest=${RUN_SECONDS[$i]}
  done
  [ "$longest" -lt "$SOUND_S" ] || FAILED=0
  failed_once "the run ended after $(clock "$longest"): $(lines_of failed)$(lines_of lost)"
}

begin_run() {
  count_hosts bare
  if [ "$COUNTED" -gt 0 ]; then
    note "setting up $HOSTS hosts with commit ${COMMIT:0:12}"
    setup_hosts "$COMMIT" || { failed_once "the setup failed"; return; }
  fi
  [ -n "$NO_DOCTOR" ] || doctor_hosts || { failed_once "the doctor found a fault"; return; }
  note "starting the run"
  start_hosts || { failed_once "the run did not start on every host"; return; }
  SEEN=yes
}

# True if every host's last run had these words.
ours_all() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_SUM[$i]}" = "$WORDS_SUM" ] || return 1
  done
}

# What the hosts in run state $1 say, in one line.
lines_of() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_STATE[$i]}" != "$1" ] || printf 'worker %s: %s. ' "$i" "${RUN_LINE[$i]}"
  done
}
