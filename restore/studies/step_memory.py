"""Memory of the training step of an experiment, by forecast: nothing is trained."""

from functools import cache

from restore.models import complete
from restore.profiling import Step, forecast, largest
from restore.studies.budget import Budget
from restore.studies.experiment import Experiment


def peak(experiment: Experiment) -> int:
    """Bytes of a training step in float32."""
    memory = forecast(_step(experiment)).memory
    assert memory is not None
    return memory.peak


@cache
def features_of_equal_memory(budget: Budget) -> int:
    """The most features of an EDSR without norm whose step needs no more memory than the budget's with batch norm."""
    return largest(_step(budget.edsr(norm="none")), "features", peak(budget.edsr(norm="batch")))


def _step(experiment: Experiment) -> Step:
    return Step(complete(experiment.network), experiment.batch_size, experiment.patch_size, experiment.optim.loss)
