#!/bin/sh
# `npm run test:real`: the tests of test/real on a real model, which is made in the cache once.
set -eu
cd "$(dirname -- "$0")/.."
QDORA_SMOLLM2=$(sh scripts/real-model.sh)
export QDORA_SMOLLM2
sh scripts/install.sh
npm run --silent build
sh scripts/with-gpu.sh --wide sh scripts/run-vitest.sh --config vitest.real.config.ts "$@"
