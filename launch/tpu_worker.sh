#!/usr/bin/env bash
# Runs a command on one host of a TPU slice, with the three variables by which the hosts of a run find each other:
#   launch/tpu_worker.sh python -m bert_tpu.pretrain ARG...
# Kubernetes Engine names the hosts in TPU_WORKER_HOSTNAMES and TPU_WORKER_ID. Elsewhere the metadata server of Google
# Cloud has them. Both count the hosts as the TPU does, so the first is the coordinator. launch/sky.yaml and XPK use it.
set -euo pipefail
PORT=8476 # as in hosts.sh
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints attribute $1 of this machine.
attribute() {
  curl --silent --fail --max-time 10 --retry 3 --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

[ $# -gt 0 ] || fail "no command to run: write launch/tpu_worker.sh python -m bert_tpu.pretrain ARG..."
if [ -n "${TPU_WORKER_HOSTNAMES:-}" ]; then
  names=$TPU_WORKER_HOSTNAMES number=${TPU_WORKER_ID:-}
else
  if ! names=$(attribute worker-network-endpoints) || ! number=$(attribute agent-worker-number); then
    fail "this machine is not a host of a TPU slice: neither TPU_WORKER_HOSTNAMES nor Google Cloud's metadata server" \
      "names its hosts, so run the command without launch/tpu_worker.sh"
  fi
fi
IFS=, read -ra hosts <<<"$names"
case $number in
  '' | *[!0-9]*) fail "the number of this host is '$number': set TPU_WORKER_ID to a whole number, 0 for the first host" ;;
esac
[ "$number" -lt "${#hosts[@]}" ] ||
  fail "this is host $number, but only ${#hosts[@]} are named ($names): count them from 0, or name all of them"
# A host's entry is its name or address, or UID:ID:ADDRESS.
exec env "JAX_COORDINATOR_ADDRESS=${hosts[0]##*:}:$PORT" "JAX_NUM_PROCESSES=${#hosts[@]}" "JAX_PROCESS_ID=$number" "$@"
