"""Randomness as an argument: a generator that is a pure function of numbers that name its use."""

import numpy as np
import torch


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` whose state depends on all of `numbers` (not negative) and nothing else."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
