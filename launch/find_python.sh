#!/usr/bin/env bash
# Prints the path of a Python that bert_tpu runs on: find_python.sh [VERSION ...]
# It is the first on PATH that works and can make an environment, the newest first. VERSION: 3.13, 3.12 or 3.11 alone.
set -euo pipefail
versions=("$@")
[ "$#" -gt 0 ] || versions=(3.13 3.12 3.11)
probe='import sys, ensurepip, venv; print("%d.%d" % sys.version_info[:2], sys.executable)'
reasons=()

# python3 comes last: it may be one of the versions under another name.
for name in "${versions[@]/#/python}" python3; do
  reason="$name is not there"
  while IFS= read -r path; do
    if found=$("$path" -c "$probe" 2>/dev/null); then
      version=${found%% *}
      case " ${versions[*]} " in *" $version "*)
        printf '%s\n' "${found#* }" # not a shim, which may lead elsewhere later
        exit
        ;;
      esac
      reason="$name is Python $version"
    elif "$path" -c "" 2>/dev/null; then
      reason="$path lacks venv or ensurepip"
    else
      reason="$path does not start" # such as pyenv's shim of a version that is not active
    fi
  done < <(type -aP "$name")
  reasons+=("$reason")
done
looked=$(printf '%s, ' "${reasons[@]}")
list=$(printf '%s or ' "${versions[@]}")
printf 'error: no Python %s that can make an environment (%s): install one %s\n' "${list% or }" "${looked%, }" \
  "with venv (on Debian: apt install python3-venv), or name one, as in make PYTHON=/path/to/python3" >&2
exit 1
