#!/usr/bin/env bash
# The run on one host of the pod. WORKER is the number of the host; the files of the run are in ~/bert_tpu/run.
#   start ADDRESS COUNT ARG...    start pretraining with ARG... as process WORKER of COUNT, detached; fails if a run
#                                 is alive
#   state                         print one line: state, exit code, seconds, checksum of ARG..., commit of the code, last
#                                 line of the log
#   log [--no-follow]             print the log, as it grows until the run ends
#   stop by-hand|by-watch         send SIGTERM: the run saves and ends
set -euo pipefail
root=$HOME/bert_tpu run=$HOME/bert_tpu/run
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

start() {
  local address=$1 count=$2
  shift 2
  exec 9>"$root/lock"
  flock -w 1 9 || fail "a run is alive on this host already: see it with launch/tpu_pod.sh status, or save and end it" \
    "with launch/tpu_pod.sh stop"
  mkdir -p "$run"
  rm -f "$run/code" "$run/stopped" "$run/pid"
  printf '%s\n' "$@" >"$run/words"
  date +%s >"$run/started"
  printf '== %s  process %s of %s: %s\n' "$(date -u +%FT%TZ)" "$WORKER" "$count" "$*" >>"$run/log"
  # The child inherits descriptor 9, and so keeps the lock as long as any process of the run lives.
  JAX_COORDINATOR_ADDRESS=$address JAX_NUM_PROCESSES=$count JAX_PROCESS_ID=$WORKER \
    setsid nohup bash "$0" supervise "$@" </dev/null >>"$run/log" 2>&1 &
}

# Runs pretraining and records its exit code. Passes a SIGTERM (the host shuts down) on to it, and waits for its end.
supervise() {
  local pid code=0
  cd "$root/code"
  "$root/venv/bin/python" -m bert_tpu.pretrain "$@" &
  pid=$!
  printf '%s\n' "$pid" >"$run/pid"
  trap 'kill -TERM "$pid" 2>/dev/null || :' TERM
  while :; do
    wait "$pid" && code=0 || code=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  date +%s >"$run/ended"
  printf '%s\n' "$code" >"$run/code"
}

state() {
  local name=idle code=- seconds=0 sum=- commit last="" until
  commit=$(cat "$root/code/COMMIT" 2>/dev/null) || commit=-
  if [ -f "$run/started" ]; then
    until=$(date +%s)
    exec 9>"$root/lock"
    if ! flock -s -n 9; then
      name=running
    elif ! [ -f "$run/code" ]; then
      name=lost code=137 # killed, or the host was restarted
    else
      code=$(cat "$run/code") until=$(cat "$run/ended")
      if [ "$code" = 0 ]; then
        name=finished
      elif grep -qs by-hand "$run/stopped"; then
        name=stopped
      else
        name=failed
      fi
    fi
    seconds=$((until - $(cat "$run/started")))
    sum=$(cksum <"$run/words" | cut -d' ' -f1)
    last=$(tail -n 1 "$run/log" | tr '\t\r' '  ' | cut -c 1-200)
  fi
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$code" "$seconds" "$sum" "$commit" "$last"
}

log() {
  [ -f "$run/log" ] || fail "no run has been started on this host yet"
  if [ "${1:-}" = --no-follow ] || [ -f "$run/code" ]; then
    tail -n 100 "$run/log"
  else
    until [ -f "$run/pid" ]; do sleep 0.2; done
    tail -n 100 -F --pid="$(cat "$run/pid")" "$run/log"
  fi
}

# $1: by-hand or by-watch. Kills a run that is still alive two minutes after the first SIGTERM: it hangs.
stop() {
  exec 9>"$root/lock"
  if flock -n 9; then
    printf 'no run is alive\n'
  elif ! [ -f "$run/pid" ]; then
    fail "a run is just starting, or a setup is in progress; try again in a few seconds"
  elif [ -n "$(find "$run" -name stopped -mmin +2)" ]; then
    kill -KILL "$(cat "$run/pid")"
    printf 'killed: it did not end within two minutes of SIGTERM\n'
  else
    [ -f "$run/stopped" ] || printf '%s\n' "$1" >"$run/stopped"
    kill -TERM "$(cat "$run/pid")"
    printf 'asked to save and end\n'
  fi
}

command=$1
shift
case $command in
  start | supervise | state | log | stop) "$command" "$@" ;;
  *) fail "host_run.sh has no command $command" ;;
esac
