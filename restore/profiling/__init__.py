"""Memory and time of a training step, from three sources that are never mixed up.

`forecast` needs no hardware: the step runs on tensors without data (FakeTensorMode), and a ledger follows every
storage from its birth to its death. `cpu` is a real step, read from the profiler's allocation events. `cuda` is a
real step after warm-up, read from the allocator's history.

All three yield lifetimes, and a lifetime tells the category: what is born in the forward pass and outlives it is an
activation kept for backward; what is born in backward and outlives the step is a gradient; what lives within one
convolution is the library's workspace; all else is temporary. The step is one of many: the optimizer has its state,
and there are no gradients at its start. The batch itself is not counted.

The forecast's workspace is an estimate: a copy of what goes in and of what comes out, as oneDNN makes them if
tensors are not channels-last.

What a GPU would show is forecast too: PyTorch's reserved memory, by the rules of its caching allocator, and what
nvidia-smi shows, with the estimate `CONTEXT` for CUDA's own. cuDNN's workspace is taken to be as large as oneDNN's.
"""

from restore.profiling.forecasting import CONTEXT, forecast, largest
from restore.profiling.measuring import measure, measure_times, time_ratio
from restore.profiling.memory import DeviceMemory, LayerMemory, Memory, Profile, Source
from restore.profiling.step import Step, flops, reduced

__all__ = [
    "CONTEXT",
    "DeviceMemory",
    "LayerMemory",
    "Memory",
    "Profile",
    "Source",
    "Step",
    "flops",
    "forecast",
    "largest",
    "measure",
    "measure_times",
    "reduced",
    "time_ratio",
]
