"""restore: image restoration networks with and without batch normalisation, trained and measured alike."""

from restore.api import denoise, load, measure, upscale
from restore.images.resize import imresize
from restore.metrics import psnr, ssim
from restore.models import RestorationNetwork

__all__ = ["RestorationNetwork", "denoise", "imresize", "load", "measure", "psnr", "ssim", "upscale"]
