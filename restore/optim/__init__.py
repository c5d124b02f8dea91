"""Losses, optimizers and schedules for every training step, real or forecast."""

from restore.optim.muon import Muon
from restore.optim.optimization import OPTIMIZERS, Optimization, parameter_groups, state_tensors

__all__ = ["OPTIMIZERS", "Muon", "Optimization", "parameter_groups", "state_tensors"]
