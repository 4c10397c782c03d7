# shellcheck shell=bash disable=SC2034,SC2153
# What is done on the hosts of a pod that stands: setup, doctor, run, status, logs, stop. tpu_pod.sh sources this file.

CODE=bert_tpu/code/launch  # on a host, below its home
# JAX's own choice has moved (8482 since 0.8.1); 8476 is what Cloud's documents open between a pod's hosts.
PORT=8476

# Ships the commit $1 and makes every host ready for it. Returns 1, with the reason said, where that does not succeed.
setup_hosts() {
  local commit=$1 tar="bert_tpu-$1.tar.gz" folder=$TMP unpack
  [ -z "$DRY_RUN" ] || folder=/tmp # what is printed can be pasted later
  here git -C "$REPO" archive --format=tar.gz --output="$folder/$tar" "$commit"
  # Alone first: the first connection of all makes an ssh key, which four at once would fight over.
  ssh_to 0 true 2>"$TMP/err.0" || { say "worker 0: $(host_fault 0 $?)"; return 1; }
  cloud compute tpus tpu-vm scp "$folder/$tar" "$NAME:" "${PLACE[@]}" --quiet --worker=all 2>"$TMP/err" ||
    { say "cannot copy the code to $NAME: $(sentence "$TMP/err")"; return 1; }
  unpack="d=bert_tpu/$commit; mkdir -p \$d && tar -xzf $tar -C \$d && rm $tar &&"
  on_hosts "$unpack bash \$d/launch/host_setup.sh $commit $CORPUS"
  all_well
}

setup() {
  local commit
  need_ready
  commit=$(git -C "$REPO" rev-parse HEAD 2>/dev/null) ||
    fail "$REPO is no git checkout: the pod runs a commit, so clone the repository with git"
  [ -z "$(git -C "$REPO" status --porcelain)" ] ||
    say "note: what you have not committed is not shipped; the pod gets commit ${commit:0:12}"
  say "setting up $HOSTS hosts with commit ${commit:0:12}; the first time takes some minutes"
  setup_hosts "$commit" ||
    fail "the setup did not come to its end on every host; mend that and run it again, what is done is kept"
  say "every host is ready; next: launch/tpu_pod.sh doctor"
}

# Fills RUN_STATE, RUN_CODE, RUN_SECONDS, RUN_SUM and RUN_LINE, an entry a host; returns 1 where a host does not answer.
ask_hosts() {
  local i
  on_hosts "bash $CODE/host_run.sh state"
  RUN_STATE=() RUN_CODE=() RUN_SECONDS=() RUN_SUM=() RUN_LINE=()
  [ -z "$DRY_RUN" ] || return 0
  for ((i = 0; i < HOSTS; i++)); do
    RUN_STATE[i]=unknown RUN_CODE[i]=- RUN_SECONDS[i]=0 RUN_SUM[i]=- RUN_LINE[i]=""
    if [ "$(cat "$TMP/code.$i")" = 0 ]; then
      IFS=$'\t' read -r "RUN_STATE[i]" "RUN_CODE[i]" "RUN_SECONDS[i]" "RUN_SUM[i]" "RUN_LINE[i]" <"$TMP/out.$i" || :
    else
      [ "$(cat "$TMP/code.$i")" != 127 ] || RUN_STATE[i]=bare # a new host: bash finds no host_run.sh
      RUN_LINE[i]=$(host_fault "$i" "$(cat "$TMP/code.$i")")
    fi
  done
  case " ${RUN_STATE[*]} " in *" unknown "* | *" bare "*) return 1 ;; esac
}

# Sets COUNTED to how many hosts are in run state $1.
count_hosts() {
  local i
  COUNTED=0
  for ((i = 0; i < ${#RUN_STATE[@]}; i++)); do
    [ "${RUN_STATE[$i]}" != "$1" ] || COUNTED=$((COUNTED + 1))
  done
}

# Checks the words of a run and adds what the env file knows: the corpus' place and a lasting cache of programs.
run_words() {
  local word next="" workdir="" dir="" cache=""
  for word in "$@"; do
    case $next$word in
      --workdir) next=--workdir= ; continue ;;
      --workdir=*) workdir=${word#--workdir=} ;;
      --config.data.dir=*) dir=given ;;
      --config.compile_cache=*) cache=given ;;
    esac
    next=""
  done
  [ -n "$workdir" ] || fail "no workdir: write launch/tpu_pod.sh $COMMAND -- --config configs/bert.py:medium" \
    "--workdir $BUCKET/runs/medium"
  [[ $workdir == gs://* ]] ||
    fail "the workdir $workdir is on the hosts' disks, which go with the pod: give one in the bucket, such as" \
      "--workdir $BUCKET/runs/medium"
  WORDS=("$@")
  [ -n "$cache" ] || WORDS+=("--config.compile_cache=$BUCKET/compile_cache")
  [ -n "$dir" ] || [ -z "$CORPUS" ] || WORDS+=("--config.data.dir=../corpus")
  WORDS_SUM=$(printf '%s\n' "${WORDS[@]}" | cksum | cut -d' ' -f1) # as host_run.sh has it
}

# Starts WORDS on every host; where one host refuses, the others are stopped again.
start_hosts() {
  local words
  words=$(printf '%q ' "${WORDS[@]}")
  STARTING=yes
  on_hosts "bash $CODE/host_run.sh start ${ADDRESSES[0]}:$PORT $HOSTS $words"
  if ! all_well; then
    stop_hosts by-watch
    STARTING=""
    return 1
  fi
  STARTING=""
}

stop_hosts() {
  on_hosts "bash $CODE/host_run.sh stop $1"
}

run() {
  run_words "$@"
  need_ready
  ask_hosts || { status_lines; fail "not every host answers; nothing was started"; }
  count_hosts running
  [ "$COUNTED" = 0 ] || fail "a run is alive on $COUNTED of $HOSTS hosts already: launch/tpu_pod.sh status shows it," \
    "stop ends it after a save"
  [ -n "$NO_DOCTOR" ] || doctor
  start_hosts || fail "the run did not start on every host, so it was stopped on the others; nothing runs"
  [ -n "$DRY_RUN" ] || sleep "$SETTLE_S"
  ask_hosts || :
  [ -n "$DRY_RUN" ] && return
  status_lines
  count_hosts failed
  [ "$COUNTED" = 0 ] || fail "the run ended at once; the lines above say why, launch/tpu_pod.sh logs says more"
  say "running on its own: this terminal may be closed. launch/tpu_pod.sh logs follows it, watch keeps it alive"
}

status_lines() {
  local i shown
  for ((i = 0; i < ${#RUN_STATE[@]}; i++)); do
    case ${RUN_STATE[$i]} in
      failed) shown="failed (code ${RUN_CODE[$i]})" ;;
      lost) shown="gone (killed, or the host was restarted)" ;;
      bare) shown="not set up" ;;
      unknown) shown="no answer" ;;
      *) shown=${RUN_STATE[$i]} ;;
    esac
    printf 'worker %s  %s  %s  %s\n' "$i" "$shown" "$(clock "${RUN_SECONDS[$i]}")" "${RUN_LINE[$i]}"
  done
}

clock() {
  printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60))
}

status() {
  look || fail "$(sentence "$TMP/err")"
  if [ "$STATE" = ABSENT ] && [ "$CREATE" = queued ]; then
    look_at_request || fail "$(sentence "$TMP/err")"
    if [ "$REQUEST" != ABSENT ]; then
      echo "the request for $NAME is in Cloud's queue: $REQUEST; it costs nothing until there are chips"
      return
    fi
  fi
  [ -n "$DRY_RUN" ] || case $STATE in
    ABSENT) echo "there is no pod $NAME in $ZONE: nothing runs and nothing costs" ;;
    PREEMPTED | TERMINATED) echo "Cloud has taken $NAME back ($STATE): watch makes it again, delete clears it away" ;;
    *) echo "$NAME in $ZONE: $STATE, $ACCELERATOR ($CHIPS chips, $HOSTS hosts), $CAPACITY; it costs money until delete" ;;
  esac
  [ "$STATE" = READY ] || return 0
  ask_hosts || :
  status_lines
}

# The logs of all hosts, each line with its host's number, until the runs end or Ctrl-C.
logs() {
  local i
  need_ready
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
  need_ready
  stop_hosts by-hand
  all_well || fail "not every host could be asked"
  [ -n "$DRY_RUN" ] || say "asked: the run saves a checkpoint and ends; the pod stays and costs money until it is deleted"
}

doctor() {
  need_ready
  doctor_hosts || fail "the pod is not fit for a run; the lines above say what to mend"
}

# Every host looks at itself at once; the verdict is printed as a table. Returns 1 if anything is wrong.
doctor_hosts() {
  local probe
  say "every host looks at itself: chips, versions, port, clock, bucket"
  probe="cd bert_tpu/code 2>/dev/null || exit 127; ../venv/bin/python launch/doctor.py --host \$WORKER --hosts $HOSTS"
  probe+=" --coordinator ${ADDRESSES[0]}:$PORT --bucket $BUCKET${CORPUS:+ --corpus ../corpus}"
  on_hosts "$probe"
  [ -z "$DRY_RUN" ] || return 0
  all_well || return 1
  cat "$TMP"/out.[0-9]* | "$LOCAL_PYTHON" "$HERE/verdict.py" --hosts "$HOSTS" --chips "$CHIPS" --kind "$KIND" >&2
}
