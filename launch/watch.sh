# shellcheck shell=bash disable=SC2034,SC2153
# Keeps one run alive: checks the pod and its hosts, and restores what is missing. tpu_pod.sh sources this file.
#
# Every start uses the same arguments, so the run continues in its workdir from the newest checkpoint. bert_tpu refuses
# to overwrite a newer checkpoint, and a host refuses to start a second run.

HEALTHY_S=600     # after this many seconds a run does not count as a failed start
MAX_FAILURES=3    # in a row; also of ends with the same error in a row, however long the runs were
MAX_NO_ANSWERS=10 # checks in a row in which Google Cloud or a host gave no answer
# Checks in a row of a pod that is neither ready nor gone, and tries to get one by CREATE=direct. Tests shorten it.
MAX_WAITS=${TPU_POD_MAX_WAITS:-300}

# Prints a message with the time.
note() {
  say "$(date '+%d %b %H:%M')  $*"
}

watch() {
  prepare_run_args "$@"
  COMMIT=$(git -C "$REPO" rev-parse HEAD 2>/dev/null) ||
    fail "$REPO is not a git checkout: clone the repository with git"
  if [ -n "$DRY_RUN" ]; then
    watch_dry
    return
  fi
  # REPLACING: watch deleted the pod and creates a new one. RUN_SEEN: watch has started the run or seen it alive.
  # LAST_NOTE: the last printed line, which is not repeated. The others count checks or failures in a row.
  WATCHING=yes REPLACING="" RUN_SEEN="" LAST_NOTE="" NO_ANSWERS=0 WAITS=0 PARTIAL_RUNS=0 FAILURES=0
  LAST_ERROR="" SAME_ERRORS=0
  while :; do
    watch_once
    # The pause doubles with each failure, up to sixteen times its length.
    sleep "$(awk -v s="$POLL_S" -v n=$((FAILURES + NO_ANSWERS < 4 ? FAILURES + NO_ANSWERS : 4)) \
      'BEGIN { print s * 2 ^ n }')"
  done
}

watch_dry() {
  require_ready
  read_runs
  printf '# after a preemption:\n' >&2
  delete_pod
  create_pod
  setup_hosts "$COMMIT"
  check_pod
  start_hosts
}

watch_once() {
  read_pod || { count_no_answer "$(explain_error "$TMP/err")"; return; }
  case $STATE in
    READY) handle_ready_pod ;;
    PREEMPTED | TERMINATED)
      note "Google Cloud has taken $NAME back ($STATE)"
      replace_pod ;;
    ABSENT) handle_absent_pod ;;
    STOPPED | STOPPING | HIDDEN | HIDING)
      fail "somebody has stopped or hidden $NAME ($STATE): run gcloud compute tpus tpu-vm start $NAME ${PLACE[*]}," \
        "then watch again" ;;
    *) count_wait "$NAME is $STATE" ;;
  esac
}

# Counts a check without an answer, for reason $1. Exits after MAX_NO_ANSWERS in a row.
count_no_answer() {
  NO_ANSWERS=$((NO_ANSWERS + 1))
  note "$1"
  [ "$NO_ANSWERS" -lt "$MAX_NO_ANSWERS" ] || fail "no answer $MAX_NO_ANSWERS times in a row; $NAME may still run and" \
    "cost money: see launch/tpu_pod.sh status, then watch again or delete it"
}

# Prints message $1, unless it is the last one again.
note_once() {
  [ "$1" = "$LAST_NOTE" ] || note "$1"
  LAST_NOTE=$1
}

# Counts a check in which the pod had to be waited for, for reason $1. Exits after MAX_WAITS in a row.
count_wait() {
  WAITS=$((WAITS + 1))
  note_once "$1"
  [ "$WAITS" -lt "$MAX_WAITS" ] ||
    fail "$1, and nothing has changed in $MAX_WAITS checks: delete the pod and create it again"
}

# Counts a failure, for reason $1. Exits after MAX_FAILURES in a row.
count_failure() {
  FAILURES=$((FAILURES + 1))
  note "$1"
  [ "$FAILURES" -lt "$MAX_FAILURES" ] || fail "this was failure $FAILURES in a row, so watch gives up; $NAME costs" \
    "money as long as it exists: launch/tpu_pod.sh logs prints more, delete deletes it"
}

# There is no node: its request is queued, Google Cloud has taken it, watch is replacing it, or somebody deleted it.
handle_absent_pod() {
  read_request || { count_no_answer "$(explain_error "$TMP/err")"; return; }
  case $REQUEST in
    ABSENT) ;;
    FAILED | SUSPENDED | SUSPENDING)
      note "Google Cloud has ended the request for $NAME ($REQUEST)"
      replace_pod
      return ;;
    ACCEPTED | WAITING_FOR_RESOURCES) # a full zone may have nothing for days
      NO_ANSWERS=0
      note_once "the request for $NAME: $REQUEST"
      return ;;
    *)
      count_wait "the request for $NAME: $REQUEST"
      return ;;
  esac
  [ -n "$REPLACING" ] || fail "there is no pod $NAME, and watch did not delete it: nothing is running and nothing" \
    "costs money. Create one with launch/tpu_pod.sh create"
  replace_pod
}

# Deletes a lost pod and creates a new one. A full zone is waited for; any other refusal counts as a failure.
replace_pod() {
  REPLACING=yes RUN_SEEN=""
  delete_pod || { count_failure "$(explain_error "$TMP/err")"; return; }
  note "asking for $NAME again"
  if create_pod; then
    WAITS=0
    return
  fi
  local reason
  reason=$(explain_error "$TMP/err")
  case $reason in
    *"no free"*) count_wait "$reason" ;;
    *) count_failure "$reason" ;;
  esac
}

# The pod is ready: its run is alive, has ended, or must be started.
handle_ready_pod() {
  [ "${#ADDRESSES[@]}" -eq "$HOSTS" ] || { count_wait "$NAME has ${#ADDRESSES[@]} of $HOSTS hosts"; return; }
  REPLACING="" WAITS=0
  read_runs || :
  count_hosts unknown
  if [ "$COUNT" -gt 0 ]; then
    count_no_answer "$COUNT of $HOSTS hosts do not answer: $(lines_of unknown)"
    return
  fi
  NO_ANSWERS=0
  local commit
  if commit=$(other_commit "$COMMIT"); then
    fail "the hosts have commit ${commit:0:12} and this clone has ${COMMIT:0:12}, so the next preemption would change the" \
      "code of the run: git checkout $commit, or stop the run and set the hosts up again, and then watch"
  fi
  count_hosts running
  if [ "$COUNT" -gt 0 ]; then
    handle_live_run "$COUNT"
    return
  fi
  PARTIAL_RUNS=0
  count_hosts finished
  if [ "$COUNT" = "$HOSTS" ] && all_ran_these_args; then
    note "the run has finished: $(lines_of finished)"
    say "$NAME is idle now and costs money until launch/tpu_pod.sh delete"
    exit 0
  fi
  if [ -n "$RUN_SEEN" ]; then
    handle_dead_run
  fi
  begin_run
}

# The run is alive on $1 hosts. Exits if it is another run. If it has died on the other hosts, it usually ends by itself
# on the rest; after three checks it is stopped there.
handle_live_run() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_STATE[$i]}" != running ] || [ "${RUN_SUM[$i]}" = "$RUN_ARGS_SUM" ] ||
      fail "another run is alive on $NAME, with other arguments or another compile cache: call watch with the" \
        "arguments of that run, or end it with launch/tpu_pod.sh stop"
  done
  RUN_SEEN=yes
  if [ "$1" = "$HOSTS" ]; then
    PARTIAL_RUNS=0
    [ "${RUN_SECONDS[0]}" -lt "$HEALTHY_S" ] || FAILURES=0
    [ "${RUN_LINE[0]}" = "$LAST_NOTE" ] || note "${RUN_LINE[0]}"
    LAST_NOTE=${RUN_LINE[0]}
    return
  fi
  PARTIAL_RUNS=$((PARTIAL_RUNS + 1))
  if [ "$PARTIAL_RUNS" -ge 3 ]; then
    note "only $1 of $HOSTS hosts still run: stopping them, to start all again"
    stop_hosts by-watch
  fi
}

# A run that was alive is not any more. Exits if it was stopped by hand; otherwise counts a failure.
handle_dead_run() {
  local i longest=0
  RUN_SEEN=""
  count_hosts stopped
  [ "$COUNT" = 0 ] || fail "the run was stopped with launch/tpu_pod.sh stop, so watch ends too; $NAME costs money" \
    "until you delete it, and the same watch command continues from the last checkpoint"
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_SECONDS[$i]}" -le "$longest" ] || longest=${RUN_SECONDS[$i]}
  done
  [ "$longest" -lt "$HEALTHY_S" ] || FAILURES=0
  # A run that continues from one checkpoint to one fault says the same each time: it has the number of the step.
  local error
  error=$(lines_of failed)
  [ -n "$error" ] && [ "$error" = "$LAST_ERROR" ] || SAME_ERRORS=0
  LAST_ERROR=$error SAME_ERRORS=$((SAME_ERRORS + 1))
  [ "$SAME_ERRORS" -lt "$MAX_FAILURES" ] || FAILURES=$((MAX_FAILURES - 1))
  count_failure "the run ended after $(clock "$longest"): $error$(lines_of lost)"
}

# Starts the run, after the setup of a new pod and the doctor.
begin_run() {
  count_hosts bare
  if [ "$COUNT" -gt 0 ]; then
    note "setting up $HOSTS hosts with commit ${COMMIT:0:12}"
    setup_hosts "$COMMIT" || { count_failure "the setup failed"; return; }
  fi
  [ -n "$NO_DOCTOR" ] || check_pod || { count_failure "the doctor reports a fault"; return; }
  note "starting the run"
  start_hosts || { count_failure "the run did not start on every host"; return; }
  RUN_SEEN=yes
}

# True if every host's last run had these arguments.
all_ran_these_args() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_SUM[$i]}" = "$RUN_ARGS_SUM" ] || return 1
  done
}

# Prints the last log line of each host in run state $1, as one line.
lines_of() {
  local i
  for ((i = 0; i < HOSTS; i++)); do
    [ "${RUN_STATE[$i]}" != "$1" ] || printf 'worker %s: %s. ' "$i" "${RUN_LINE[$i]}"
  done
}
