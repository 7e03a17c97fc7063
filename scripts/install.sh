#!/bin/sh
# Installs the packages of package-lock.json where they are missing or older than it. Nothing a package brings is run.
set -eu
cd "$(dirname -- "$0")/.."
done_mark=node_modules/.package-lock.json
if [ ! -f "$done_mark" ] || [ package-lock.json -nt "$done_mark" ]; then
  echo "qdora: installing packages" >&2
  npm ci --ignore-scripts --no-audit --no-fund
fi
