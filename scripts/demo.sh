#!/bin/sh
# `npm run demo`: installs, builds, finds or sets up a GPU, and fine-tunes the embedded tiny model.
set -eu
cd "$(dirname -- "$0")/.."
sh scripts/install.sh
npm run --silent build
exec sh scripts/with-gpu.sh node scripts/demo.mjs "$@"
