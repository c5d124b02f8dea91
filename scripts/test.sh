#!/usr/bin/env bash
# Everything that must hold before a change lands: lint, format, types, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh requirements-dev.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Files of tests are shared among as many processes as there are cores, each with one thread.
OMP_NUM_THREADS=1 .venv/bin/pytest --numprocesses auto --dist loadfile "$@"
