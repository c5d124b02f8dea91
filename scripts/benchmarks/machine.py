"""What the machine can do at most: the highest rate at which it convolves."""

import time

import torch
import torch.nn.functional as F

SHAPES = ((16, 64, 96), (32, 64, 40), (8, 256, 48), (2, 256, 64))  # batch, features, height and width


def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The best of several 3x3 convolutions, forward, channels-last, in FLOP/s."""
    best = 0.0
    for batch, features, size in SHAPES:
        images = torch.rand(batch, features, size, size, device=device, dtype=dtype)
        weight = torch.rand(features, features, 3, 3, device=device, dtype=dtype)
        images, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, weight))
        operations = 2 * images.numel() * features * 9
        with torch.inference_mode():
            for _ in range(3):
                F.conv2d(images, weight, padding=1)
            for _ in range(10):
                start = time.perf_counter()
                F.conv2d(images, weight, padding=1)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                best = max(best, operations / (time.perf_counter() - start))
    return best
