"""The claims by family; importing this lists them all. To add one: one function, and its criterion."""

from restore.studies.claim import CLAIMS
from restore.studies.claims import denoising, memory, optimization, statistics, super_resolution

__all__ = ["CLAIMS", "denoising", "memory", "optimization", "statistics", "super_resolution"]
