#!/usr/bin/env bash
# Prepares one host of the pod, from the code that contains this file: host_setup.sh COMMIT [CORPUS]
# Installs Python with all pinned packages in ~/bert_tpu/venv, copies the corpus to ~/bert_tpu/corpus, and links
# ~/bert_tpu/code to this code. Finished parts are kept: a second setup takes seconds.
set -euo pipefail
commit=$1 corpus=${2:-}
code=$(cd "$(dirname "$0")/.." && pwd)
root=$HOME/bert_tpu venv=$HOME/bert_tpu/venv
UV=0.13.9      # https://pypi.org/project/uv/
PYTHON=3.13    # 3.11 and 3.12 serve too; images of TPU VMs have 3.10
INTERNET="does this host reach the internet (by an external address, or by Cloud NAT)?"
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# A run keeps this lock as long as it lives, and a setup while it works.
exec 9>"$root/lock"
flock -w 1 9 ||
  fail "a run or another setup is active on this host; wait for it, or stop the run with launch/tpu_pod.sh stop"

PATH=$HOME/.local/bin:$PATH
if ! command -v uv >/dev/null; then
  python3 -m pip install --user --quiet "uv==$UV" >&2 || # newer images forbid this; uv has its own installer
    curl -LsSf "https://astral.sh/uv/$UV/install.sh" | sh >&2 ||
    fail "cannot install uv; $INTERNET"
fi
if ! [ -x "$venv/bin/python" ]; then
  uv venv --quiet --python "$PYTHON" "$venv" >&2 || fail "uv cannot install Python $PYTHON; $INTERNET"
fi
pins=$(cd "$code" && cat pyproject.toml constraints.txt | cksum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$pins" ]; then
  (cd "$code" &&
    uv pip install --quiet --python "$venv/bin/python" -r pyproject.toml --extra tpu -c constraints.txt >&2) ||
    fail "cannot install the pinned packages; the lines above name the package"
  printf '%s\n' "$pins" >"$venv/installed"
fi
if [ -n "$corpus" ]; then
  mkdir -p "$root/corpus"
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "$corpus" "$root/corpus" >&2 ||
    fail "cannot copy $corpus; does it exist, and may the pod's service account read it?"
  [ -f "$root/corpus/corpus.json" ] ||
    fail "$corpus has no corpus.json; copy a whole folder written by tools.prepare_corpus there"
fi
printf '%s\n' "$commit" >"$code/COMMIT"
ln -sfn "$(basename "$code")" "$root/code"
