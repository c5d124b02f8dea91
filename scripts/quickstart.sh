#!/usr/bin/env bash
# From nothing to restored photographs: install, train a small DnCNN and a small EDSR, measure both, restore a folder.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh requirements.txt
python=.venv/bin/python
restore=.venv/bin/restore
runs=runs/quickstart-demo # not runs/quickstart, where `restore train` keeps a run of the user
rm -rf "$runs"

echo "== Training a small DnCNN with batch normalization on photographs, noise of sigma 25"
$restore train --config quickstart --output $runs/dncnn
echo "== Training a small EDSR x2 without batch normalization on the same photographs"
$restore train --config quickstart_edsr --output $runs/edsr

echo "== Both on photographs that they were not trained on, but whose PSNR has chosen the checkpoint"
$restore evaluate --weights $runs/dncnn/weights.safetensors --data photos \
  --json $runs/dncnn.json --sheet $runs/dncnn.png
$restore evaluate --weights $runs/edsr/weights.safetensors --data photos \
  --json $runs/edsr.json --sheet $runs/edsr.png

echo "== Restoring a folder of noisy photographs"
$python scripts/make_noisy.py $runs/noisy
$restore infer --weights $runs/dncnn/weights.safetensors --input $runs/noisy --output $runs/restored

cat <<END

Contact sheets (input, restored, truth):  $runs/dncnn.png  $runs/edsr.png
Scores of every image:                    $runs/dncnn.json  $runs/edsr.json
A folder before and after:                $runs/noisy  $runs/restored
Trained weights:                          $runs/dncnn/weights.safetensors  $runs/edsr/weights.safetensors
END
