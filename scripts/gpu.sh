#!/usr/bin/env bash
# All that is to be measured on a GPU, in one go: memory against the forecast, times of steps and images, and, as long as
# there is time, the contrast at full size. What a file in the output folder says already is not measured again.
# Usage: scripts/gpu.sh [--output DIR] [--for TIME] [--device cpu --tiny]
#   --output  folder of the JSON files and of their page, index.md (default: runs/gpu)
#   --for     time for the contrast, e.g. 30m (default); 0 leaves it out
#   --device  cuda (default); cpu with --tiny sizes rehearses everything
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-.venv/bin/python}
output=runs/gpu device=cuda limit=30m tiny=
while [ $# -gt 0 ]; do
  case $1 in
    --output) output=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --for) limit=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    *) echo "error: unknown option $1; usage: scripts/gpu.sh [--output DIR] [--for TIME] [--device cpu --tiny]" >&2; exit 2 ;;
  esac
done

measured=(EDSR-baseline EDSR-32x256 DnCNN-17 DnCNN-20 SRResNet)
timed=(DnCNN EDSR SRResNet)
memory=() host=() train=(--seconds 10) infer=(--seconds 8)
if [ "$tiny" ]; then
  measured=(EDSR-baseline SRResNet)
  timed=(DnCNN)
  memory=(--batch 1 --patch 8)
  host=(--seconds 0.1 --rounds 2)
  train=(--seconds 0.1 --batch 1 --patch 8)
  infer=(--seconds 0.1 --rounds 2 --size 16x16 --only "torch fp32")
fi
most=1500 # seconds for all but the contrast
mkdir -p "$output"

# Run a command that writes $output/NAME.json, unless that is there or the time is up. One that fails leaves none.
measure() {
  local file=$output/$1.json left=$((most - SECONDS))
  [ -e "$file" ] && return
  if [ "$left" -le 0 ]; then
    echo "no time left for $1; the same command continues with it"
    return
  fi
  echo "== $1 ($((SECONDS / 60)) min)"
  timeout --foreground "$left" "${@:2}" --device "$device" --json "$file" > "$output/$1.txt" 2>&1 || echo "failed: $1; see $output/$1.txt"
}

for precision in fp32 bf16-mixed; do
  measure "memory-$precision" $python -m restore.memory --networks "${measured[@]}" "${memory[@]}" --precision $precision
done
measure host $python scripts/benchmark.py host "${host[@]}"
for network in "${timed[@]}"; do
  measure "train-$network" $python scripts/benchmark.py train --network "$network" "${train[@]}"
  measure "infer-$network" $python scripts/benchmark.py infer --network "$network" "${infer[@]}"
done
$python scripts/gpu_page.py "$output"

if [ "$limit" != 0 ]; then
  echo "== contrast, for $limit"
  $python -m restore.study contrast --for "$limit" --output "$output/contrast"
  $python scripts/gpu_page.py "$output"
fi
