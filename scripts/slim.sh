#!/usr/bin/env bash
# Removes from node_modules what only developers read (types, source maps, documentation), and addons of another runtime
# than Node.js (Bare). Licences stay.
set -euo pipefail
find "$1" -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' -o -name '*.md' -o -name '*.markdown' \
  -o -name '*.flow' -o -name '*.tsbuildinfo' -o -name '*.bare' \) ! -iname 'licen[cs]e*' ! -iname 'notice*' -delete
find "$1" -type d \( -name .github -o -name .bin \) -prune -exec rm -rf {} +
find "$1" -type d -empty -delete
