#!/usr/bin/env bash
# The run of one host of the pod; the number of the host is in WORKER, what is kept of the run in ~/bert_tpu/run.
#   start ADDRESS COUNT WORD...   pretraining with these words, process WORKER of COUNT, detached; refused beside a run
#   state                         one line: STATE, exit code, seconds, checksum of the words, last line of the log
#   log [--no-follow]             the log, as it grows until the run ends
#   stop by-hand|by-watch         SIGTERM: the run saves and ends
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
  flock -w 1 9 || fail "a run is alive here already; launch/tpu_pod.sh status shows it, stop ends it"
  mkdir -p "$run"
  rm -f "$run/code" "$run/stopped" "$run/pid"
  printf '%s\n' "$@" >"$run/words"
  date +%s >"$run/started"
  printf '== %s  process %s of %s: %s\n' "$(date -u +%FT%TZ)" "$WORKER" "$count" "$*" >>"$run/log"
  # The child keeps descriptor 9, and with it the lock, for as long as any process of the run lives.
  JAX_COORDINATOR_ADDRESS=$address JAX_NUM_PROCESSES=$count JAX_PROCESS_ID=$WORKER \
    setsid nohup bash "$0" supervise "$@" </dev/null >>"$run/log" 2>&1 &
}

# Runs and writes down how it ended. A SIGTERM to this shell (the host goes down) is handed on, and waited for.
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
  local what=idle code=- seconds=0 sum=- last="" until
  if [ -f "$run/started" ]; then
    until=$(date +%s)
    exec 9>"$root/lock"
    if ! flock -s -n 9; then
      what=running
    elif ! [ -f "$run/code" ]; then
      what=lost code=137 # killed, or the host was restarted
    else
      code=$(cat "$run/code") until=$(cat "$run/ended")
      if [ "$code" = 0 ]; then what=finished; elif grep -qs by-hand "$run/stopped"; then what=stopped; else what=failed; fi
    fi
    seconds=$((until - $(cat "$run/started")))
    sum=$(cksum <"$run/words" | cut -d' ' -f1)
    last=$(tail -n 1 "$run/log" | tr '\t\r' '  ' | cut -c 1-200)
  fi
  printf '%s\t%s\t%s\t%s\t%s\n' "$what" "$code" "$seconds" "$sum" "$last"
}

log() {
  [ -f "$run/log" ] || fail "no run was started here yet"
  if [ "${1:-}" = --no-follow ] || [ -f "$run/code" ]; then
    tail -n 100 "$run/log"
  else
    until [ -f "$run/pid" ]; do sleep 0.2; done
    tail -n 100 -F --pid="$(cat "$run/pid")" "$run/log"
  fi
}

# $1: by-hand or by-watch. A run that was asked two minutes ago and is still there hangs, and is killed.
stop() {
  exec 9>"$root/lock"
  if flock -n 9; then
    printf 'nothing runs\n'
  elif ! [ -f "$run/pid" ]; then
    fail "a run is just starting, or a setup is at work; try again in a few seconds"
  elif [ -n "$(find "$run" -name stopped -mmin +2)" ]; then
    kill -KILL "$(cat "$run/pid")"
    printf 'killed: it did not end within two minutes of being asked\n'
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
  *) fail "host_run.sh has no $command" ;;
esac
