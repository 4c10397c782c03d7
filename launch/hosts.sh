# shellcheck shell=bash disable=SC2034,SC2153
# Commands for the hosts of a pod that exists: setup, doctor, run, status, logs, stop. tpu_pod.sh sources this file.

CODE=bert_tpu/code/launch  # on a host, relative to its home
# JAX's own default has changed (8482 since 0.8.1); Google Cloud's documents open 8476 between a pod's hosts.
PORT=8476

# Copies commit $1 to every host and installs what it needs. Returns 1, after printing the reason, if a host fails.
setup_hosts() {
  local commit=$1 tar="bert_tpu-$1.tar.gz" folder=$TMP unpack
  [ -z "$DRY_RUN" ] || folder=/tmp # $TMP is gone by the time that somebody pastes the printed commands
  local_command git -C "$REPO" archive --format=tar.gz --output="$folder/$tar" "$commit"
  # Worker 0 first: the very first connection creates an ssh key, and four connections at once would each create one.
  ssh_to 0 true 2>"$TMP/err.0" || { say "worker 0: $(host_error 0 $?)"; return 1; }
  cloud compute tpus tpu-vm scp "$folder/$tar" "$NAME:" "${PLACE[@]}" --quiet --worker=all 2>"$TMP/err" ||
    { say "cannot copy the code to $NAME: $(explain_error "$TMP/err")"; return 1; }
  unpack="d=bert_tpu/$commit; mkdir -p \$d && tar -xzf $tar -C \$d && rm $tar &&"
  run_on_hosts "$unpack bash \$d/launch/host_setup.sh $commit $CORPUS"
  report_failures
}

setup() {
  local commit
  require_ready
  commit=$(git -C "$REPO" rev-parse HEAD 2>/dev/null) ||
    fail "$REPO is not a git checkout: the pod runs a commit, so clone the repository with git"
  [ -z "$(git -C "$REPO" status --porcelain)" ] ||
    say "note: uncommitted changes are not copied; the pod gets commit ${commit:0:12}"
  say "setting up $HOSTS hosts with commit ${commit:0:12}; the first time takes some minutes"
  setup_hosts "$commit" ||
    fail "the setup did not finish on every host; fix the fault above and run setup again, it keeps finished parts"
  say "every host is ready; next: launch/tpu_pod.sh doctor"
}

# Asks every host about its run. Fills RUN_STATE, RUN_CODE, RUN_SECONDS, RUN_SUM and RUN_LINE, one entry per host.
# Returns 1 if a host does not answer.
read_runs() {
  local i
  run_on_hosts "bash $CODE/host_run.sh state"
  RUN_STATE=() RUN_CODE=() RUN_SECONDS=() RUN_SUM=() RUN_COMMIT=() RUN_LINE=()
  [ -z "$DRY_RUN" ] || return 0
  for ((i = 0; i < HOSTS; i++)); do
    RUN_STATE[i]=unknown RUN_CODE[i]=- RUN_SECONDS[i]=0 RUN_SUM[i]=- RUN_COMMIT[i]=- RUN_LINE[i]=""
    if [ "$(cat "$TMP/code.$i")" = 0 ]; then
      IFS=$'\t' read -r "RUN_STATE[i]" "RUN_CODE[i]" "RUN_SECONDS[i]" "RUN_SUM[i]" "RUN_COMMIT[i]" "RUN_LINE[i]" \
        <"$TMP/out.$i" || :
    else
      [ "$(cat "$TMP/code.$i")" != 127 ] || RUN_STATE[i]=bare # a new host: it has no host_run.sh
      RUN_LINE[i]=$(host_error "$i" "$(cat "$TMP/code.$i")")
    fi
  done
  case " ${RUN_STATE[*]} " in *" unknown "* | *" bare "*) return 1 ;; esac
}

# Sets COUNT to the number of hosts in run state $1.
count_hosts() {
  local i
  COUNT=0
  for ((i = 0; i < ${#RUN_STATE[@]}; i++)); do
    [ "${RUN_STATE[$i]}" != "$1" ] || COUNT=$((COUNT + 1))
  done
}

# Prints the commit of the code on the hosts if it is not commit $1, that of the clone. Returns 1 if it is.
other_commit() {
  local commit
  for commit in "${RUN_COMMIT[@]}"; do
    case $commit in
      "$1" | *[!0-9a-f]* | "") ;; # of a host that an earlier release has set up, nothing is known
      *) echo "$commit"; return 0 ;;
    esac
  done
  return 1
}

# Checks the arguments for pretraining and sets RUN_ARGS to them, with what the env file knows unless they set it:
# the corpus' folder on the hosts, and a cache of compiled programs in the bucket, where it outlives the pod.
prepare_run_args() {
  local word option="" workdir="" corpus_set="" cache_set=""
  for word in "$@"; do
    case $option$word in
      --workdir) option=--workdir= ; continue ;;
      --workdir=*) workdir=${word#--workdir=} ;;
      --config.data.dir=*) corpus_set=yes ;;
      --config.compile_cache=*) cache_set=yes ;;
    esac
    option=""
  done
  [ -n "$workdir" ] || fail "--workdir is missing: write launch/tpu_pod.sh $COMMAND -- --config" \
    "configs/fast.py:medium --workdir $BUCKET/runs/medium"
  [[ $workdir == gs://* ]] ||
    fail "the workdir $workdir is on the hosts' disks, which are deleted with the pod: use one in the bucket, such as" \
      "--workdir $BUCKET/runs/medium"
  RUN_ARGS=("$@")
  [ -n "$cache_set" ] || RUN_ARGS+=("--config.compile_cache=$BUCKET/compile_cache")
  [ -n "$corpus_set" ] || [ -z "$CORPUS" ] || RUN_ARGS+=("--config.data.dir=../corpus")
  RUN_ARGS_SUM=$(printf '%s\n' "${RUN_ARGS[@]}" | cksum | cut -d' ' -f1) # computed as host_run.sh computes it
}

# Starts pretraining with RUN_ARGS on every host. If one host refuses, stops the others and returns 1.
start_hosts() {
  local quoted
  quoted=$(printf '%q ' "${RUN_ARGS[@]}")
  STARTING=yes
  run_on_hosts "bash $CODE/host_run.sh start ${ADDRESSES[0]}:$PORT $HOSTS $quoted"
  if ! report_failures; then
    stop_hosts by-watch
    STARTING=""
    return 1
  fi
  STARTING=""
}

# Asks every host to stop its run. $1: by-hand or by-watch.
stop_hosts() {
  run_on_hosts "bash $CODE/host_run.sh stop $1"
}

run() {
  local head commit
  prepare_run_args "$@"
  require_ready
  read_runs || { print_runs; fail "not every host answers; nothing was started"; }
  count_hosts running
  [ "$COUNT" = 0 ] || fail "a run is alive on $COUNT of $HOSTS hosts already: see it with launch/tpu_pod.sh status," \
    "or save and end it with launch/tpu_pod.sh stop"
  if [ -z "$DRY_RUN" ] && head=$(git -C "$REPO" rev-parse HEAD 2>/dev/null) && commit=$(other_commit "$head"); then
    say "the hosts have commit ${commit:0:12} and this clone has ${head:0:12}: the run gets that of the hosts." \
      "launch/tpu_pod.sh setup copies the clone's"
  fi
  [ -n "$NO_DOCTOR" ] || doctor
  start_hosts || fail "the run did not start on every host, so it was stopped on the others; nothing is running"
  [ -n "$DRY_RUN" ] || sleep "$SETTLE_S"
  read_runs || :
  [ -n "$DRY_RUN" ] && return
  print_runs
  count_hosts failed
  [ "$COUNT" = 0 ] || fail "the run ended at once; the lines above name the reason, launch/tpu_pod.sh logs prints more"
  say "the run goes on without this terminal, which may be closed. launch/tpu_pod.sh logs prints its log," \
    "launch/tpu_pod.sh watch keeps it alive"
}

# Prints one line per host: number, state, duration and last line of the log.
print_runs() {
  local i state
  for ((i = 0; i < ${#RUN_STATE[@]}; i++)); do
    case ${RUN_STATE[$i]} in
      failed) state="failed (code ${RUN_CODE[$i]})" ;;
      lost) state="gone (killed, or the host was restarted)" ;;
      bare) state="not set up" ;;
      unknown) state="no answer" ;;
      *) state=${RUN_STATE[$i]} ;;
    esac
    printf 'worker %s  %s  %s  %s\n' "$i" "$state" "$(clock "${RUN_SECONDS[$i]}")" "${RUN_LINE[$i]}"
  done
}

# Prints $1 seconds as H:MM:SS.
clock() {
  printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60))
}

status() {
  read_pod || fail "$(explain_error "$TMP/err")"
  if [ "$STATE" = ABSENT ]; then
    read_request || fail "$(explain_error "$TMP/err")"
    if [ "$REQUEST" != ABSENT ]; then
      echo "the request for $NAME is in Google Cloud's queue: $REQUEST; it costs nothing until there are chips"
      return
    fi
  fi
  [ -n "$DRY_RUN" ] || case $STATE in
    ABSENT) echo "there is no pod $NAME in $ZONE: nothing is running and nothing costs money" ;;
    PREEMPTED | TERMINATED)
      echo "Google Cloud has taken $NAME back ($STATE): watch creates it again, delete removes it" ;;
    *)
      echo "$NAME in $ZONE: $STATE, $ACCELERATOR ($CHIPS chips, $HOSTS hosts), $CAPACITY; it costs money until you" \
        "delete it" ;;
  esac
  [ "$STATE" = READY ] || return 0
  read_runs || :
  print_runs
}

# Prints the logs of all hosts, each line with its host's number, until the runs end or Ctrl-C.
logs() {
  local i
  require_ready
  set -m
  for ((i = 0; i < HOSTS; i++)); do
    if [ -n "$DRY_RUN" ]; then
      ssh_to "$i" "bash $CODE/host_run.sh log $NO_FOLLOW"
      continue
    fi
    { ssh_to "$i" "bash $CODE/host_run.sh log $NO_FOLLOW" 2>"$TMP/err.$i" || sed -n 's/^error: //p' "$TMP/err.$i"; } |
      while IFS= read -r line; do printf '[worker %s] %s\n' "$i" "$line"; done &
  done
  set +m
  wait
}

stop() {
  require_ready
  stop_hosts by-hand
  report_failures || fail "not every host received the request to stop; run stop again"
  [ -n "$DRY_RUN" ] || say "the run was asked to save a checkpoint and end; the pod stays and costs money until you" \
    "delete it"
}

doctor() {
  require_ready
  check_pod || fail "the pod is not fit for a run; fix the faults listed above"
}

# Runs doctor.py on every host at once and prints its report as a table. Returns 1 if anything is wrong.
check_pod() {
  local probe
  say "every host checks its chips, versions, port, clock and bucket"
  probe="cd bert_tpu/code 2>/dev/null || exit 127; ../venv/bin/python launch/doctor.py --host \$WORKER --hosts $HOSTS"
  probe+=" --coordinator ${ADDRESSES[0]}:$PORT --bucket $BUCKET${CORPUS:+ --corpus ../corpus}"
  run_on_hosts "$probe"
  [ -z "$DRY_RUN" ] || return 0
  report_failures || return 1
  cat "$TMP"/out.[0-9]* |
    "$LOCAL_PYTHON" "$HERE/doctor_report.py" --hosts "$HOSTS" --chips "$CHIPS" --kind "$KIND" >&2
}
