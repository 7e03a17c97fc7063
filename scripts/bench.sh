#!/bin/sh
# `npm run bench:kernels`, `bench:dora`, `bench:load` and so on: installs, builds and runs a benchmark with a GPU. Arguments after its name go to it.
set -eu
cd "$(dirname -- "$0")/.."
name=$1
shift
if [ "$name" = dora ] || [ "$name" = precision ] || { [ "$name" = peers ] && [ -n "${QDORA_PEFT_PYTHON:-}" ]; }; then
  QDORA_SMOLLM2=$(sh scripts/real-model.sh)
  export QDORA_SMOLLM2
fi
sh scripts/install.sh >&2
npm run --silent build
[ "$name" = memory ] && exec node "bench/$name.mjs" "$@"
# Exactness is measured on matrices too, which a software GPU has without --wide only.
[ "$name" = precision ] && exec sh scripts/with-gpu.sh node "bench/$name.mjs" "$@"
exec sh scripts/with-gpu.sh --wide node "bench/$name.mjs" "$@"
