#!/bin/sh
# `npm run bench:kernels`, `bench:dora`, `bench:merged` and the like: installs, builds and runs a benchmark with a GPU. Arguments after its name go to it.
set -eu
cd "$(dirname -- "$0")/.."
name=$1
shift
if [ "$name" = dora ]; then
  QDORA_SMOLLM2=$(sh scripts/real-model.sh)
  export QDORA_SMOLLM2
fi
sh scripts/install.sh >&2
npm run --silent build
exec sh scripts/with-gpu.sh node "bench/$name.mjs" "$@"
