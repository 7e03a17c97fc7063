#!/bin/sh
# Runs vitest with a GPU and prints the count of tests as the last line. Arguments go to vitest.
set -eu
cd "$(dirname -- "$0")/.."
report=${QDORA_TEST_REPORT:-}
if [ -z "$report" ]; then
  report=$(mktemp)
  trap 'rm -f "$report"' EXIT
fi
: >"$report"
status=0
sh scripts/with-gpu.sh node node_modules/vitest/vitest.mjs run --reporter=default --reporter=json --outputFile.json="$report" "$@" ||
  status=$?
node scripts/count-tests.mjs --status "$status" "$report"
