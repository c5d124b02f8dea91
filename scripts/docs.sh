#!/usr/bin/env bash
# Build the documentation as a site in build/docs.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh requirements-dev.txt
.venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
echo "written: build/docs/index.html"
