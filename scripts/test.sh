#!/bin/sh
# `npm test`: installs, builds, finds or sets up a GPU, runs the tests and ends with `N passed, N failed`.
# Arguments go to vitest. QDORA_TEST_REPORT keeps vitest's JSON report in that file.
set -eu
cd "$(dirname -- "$0")/.."
sh scripts/install.sh
npm run --silent build || exec node scripts/count-tests.mjs --failed 1
sh scripts/run-vitest.sh "$@"
