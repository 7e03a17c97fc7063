#!/bin/sh
# `npm run bench:gpus -- TOOL [--write] [--devices A,B] [--only PATTERN] [--json]`: what real GPUs' compilers make of our kernels.
# TOOL is the folder of the gpu-stats tool, or one that its setup.sh has filled. Where it is absent, nothing is measured and this
# says so. The drivers come from Debian 13, unpacked into the cache (once), or from the Debian 13 folder QDORA_GPU_TABLE_ROOT.
set -eu

skip() {
  printf 'qdora: bench:gpus is skipped: %s\n' "$*" >&2
  exit 0
}

[ $# -gt 0 ] || skip "it needs the folder of the gpu-stats tool: npm run bench:gpus -- FOLDER"
[ -d "$1" ] || skip "there is no folder $1"
tool=$(CDPATH='' cd -- "$1" && pwd)
shift
cd "$(dirname -- "$0")/.."
sh scripts/install.sh >&2
npm run --silent build

if ! { [ -x "$tool/stats.sh" ] && [ -x "$tool/node" ] && [ -f "$tool/root" ]; }; then
  [ -f "$tool/setup.sh" ] || skip "$tool has neither setup.sh nor what it makes (stats.sh, node, root)"
  [ "$(uname -sm)" = "Linux x86_64" ] || skip "the tool's libraries are for Linux on x86_64, this is $(uname -sm)"
  command -v bash >/dev/null 2>&1 || skip "the tool needs bash"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  if [ -n "${QDORA_GPU_TABLE_ROOT:-}" ]; then
    root=$QDORA_GPU_TABLE_ROOT
    copy=
  else
    found=$(QDORA_VULKAN_DRIVERS=all sh scripts/software-gpu.sh "$(node -p process.execPath)" </dev/null)
    root=${found%%	*}
    copy=${found#*	}
    [ -e "$root/lib64" ] || ln -s usr/lib64 "$root/lib64" # where setup.sh looks for the program loader
  fi
  bash "$tool/setup.sh" "$root" "$work" >&2
  [ -z "$copy" ] || cp "$copy" "$work/node"
  [ -x "$work/node" ] || skip "setup.sh made no node for $root: install patchelf"
  tool=$work
fi
node scripts/gpu_table.mjs "$tool" "$@"
