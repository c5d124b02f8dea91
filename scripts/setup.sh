#!/usr/bin/env bash
# Create or reuse .venv with what a requirements file pins, and restore itself in place.
# Usage: scripts/setup.sh requirements.txt|requirements-dev.txt
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=$1
mkdir -p .venv
stamp=.venv/installed-$(cat requirements*.txt pyproject.toml | cksum | cut -d' ' -f1)-$requirements
if [ -e "$stamp" ]; then
  exit
fi

python=
for candidate in python3 python3.12 python3.13 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "error: Python 3.11 or newer is needed" >&2
  exit 1
fi

[ -x .venv/bin/python ] || "$python" -m venv --upgrade-deps .venv
echo "Installing $requirements into .venv (once; a few minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r "$requirements"
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable . # -q shows the warnings of setuptools
touch "$stamp"
