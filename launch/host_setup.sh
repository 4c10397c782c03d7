#!/usr/bin/env bash
# Makes a host of the pod ready, from the code that it lies in: host_setup.sh COMMIT [CORPUS]
# Python with every pinned package in ~/bert_tpu/venv, the corpus in ~/bert_tpu/corpus; ~/bert_tpu/code is this code.
# What is there already is kept: a second setup takes seconds.
set -euo pipefail
commit=$1 corpus=${2:-}
code=$(cd "$(dirname "$0")/.." && pwd)
root=$HOME/bert_tpu venv=$HOME/bert_tpu/venv
UV=0.13.9      # https://pypi.org/project/uv/
PYTHON=3.11    # the pins are for it; images of TPU VMs bring 3.10
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# A run holds this lock as long as it lives, and another setup while it works.
exec 9>"$root/lock"
flock -w 1 9 || fail "a run or another setup is at work here; wait for it, or stop the run with launch/tpu_pod.sh stop"

PATH=$HOME/.local/bin:$PATH
if ! command -v uv >/dev/null; then
  python3 -m pip install --user --quiet "uv==$UV" >&2 || # newer images forbid this; uv has an installer of its own
    curl -LsSf "https://astral.sh/uv/$UV/install.sh" | sh >&2 ||
    fail "cannot install uv; does this host reach the internet (an external address, or Cloud NAT)?"
fi
if ! [ -x "$venv/bin/python" ]; then
  uv venv --quiet --python "$PYTHON" "$venv" >&2 || fail "uv cannot bring Python $PYTHON; does this host reach the internet (an external address, or Cloud NAT)?"
fi
wanted=$(cd "$code" && cat pyproject.toml constraints.txt | cksum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
  (cd "$code" && uv pip install --quiet --python "$venv/bin/python" -r pyproject.toml --extra tpu -c constraints.txt >&2) ||
    fail "cannot install the pinned packages; the lines above say which"
  printf '%s\n' "$wanted" >"$venv/installed"
fi
if [ -n "$corpus" ]; then
  mkdir -p "$root/corpus"
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$corpus" "$root/corpus" >&2 ||
    fail "cannot copy $corpus; does it exist, and may the pod's service account read it?"
  [ -f "$root/corpus/corpus.json" ] ||
    fail "$corpus has no corpus.json; copy a whole folder there that tools.prepare_corpus made"
fi
printf '%s\n' "$commit" >"$code/COMMIT"
ln -sfn "$(basename "$code")" "$root/code"
