"""Write the held-out photographs with noise of sigma 25, as a folder to try inference on.

Usage: python scripts/make_noisy.py FOLDER
"""

import sys
from pathlib import Path

from restore.data.catalog import default_root, find_images
from restore.data.degradation import GaussianNoise
from restore.data.pairs import load_pair
from restore.images.io import write_image
from restore.images.tensors import quantize, to_image

folder = Path(sys.argv[1])
photos = find_images("photos", "test", default_root())
for number in range(len(photos.clean)):
    pair = load_pair(photos, number, GaussianNoise(25.0), channels=1)
    write_image(folder / f"{pair.name}.png", to_image(quantize(pair.degraded)))
