"""The forecast against real steps, PyTorch's own tracker, arithmetic and the figures of other machines."""

import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restore.errors import UserError
from restore.losses import find_loss, l1
from restore.models import EDSR, NORMS, NetworkSpec, Norm, build
from restore.models.norm import normalizes_output
from restore.profiling import (
    CONTEXT,
    Memory,
    Step,
    forecast,
    largest,
    measure,
    measure_times,
    time_ratio,
)
from restore.profiling.measuring import _traced_allocations

CPU = torch.device("cpu")
MB = 10**6


def edsr(norm: Norm = "none", recompute: str = "none", blocks: int = 16, scale: int = 2) -> NetworkSpec:
    return NetworkSpec("EDSR", {"norm": norm, "recompute": recompute, "blocks": blocks, "scale": scale})


def memory_of(step: Step) -> Memory:
    found = forecast(step).memory
    assert found is not None
    return found


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("network", "size"), [("DnCNN", {"depth": 5}), ("EDSR", {"blocks": 3}), ("SRResNet", {"blocks": 3})]
)
def test_forecast_and_cpu_agree_on_tensor_memory(network: str, size: dict[str, int], norm: Norm) -> None:
    for recompute in ("none", "norm") if normalizes_output(norm) else ("none",):
        spec = NetworkSpec(network, {"norm": norm, "recompute": recompute, "features": 16, **size})
        for batch, patch in ((4, 24), (1, 6)):  # the second's peak lies in the optimizer's step
            step = Step(spec, batch, patch, loss="l1")
            predicted, real = forecast(step), measure(step, CPU)
            assert predicted.tensors == pytest.approx(real.tensors, rel=0.002), (recompute, batch)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if normalizes_output(norm)])
def test_recomputed_norms_keep_hardly_more_than_no_norm(norm: Norm) -> None:
    kept = [
        sum(layer.saved for layer in forecast(Step(edsr(*variant, blocks=4), 4, 24, "l1")).layers)
        for variant in ((norm, "norm"), ("none", "none"))
    ]
    assert kept[0] < 1.1 * kept[1]


def test_edsr_baseline_needs_what_was_measured_on_another_machine() -> None:
    profiles = [forecast(Step(edsr(norm), 16, 48, "l1")) for norm in ("batch", "none")]
    for profile, saved in zip(profiles, (662.8, 360.8), strict=True):
        assert sum(layer.saved for layer in profile.layers) == pytest.approx(saved * MB, abs=0.1 * MB)
    batch, none = (profile.memory for profile in profiles)
    assert batch is not None
    assert none is not None
    assert batch.peak == pytest.approx(748 * MB, abs=15 * MB)
    assert none.peak == pytest.approx(446 * MB, abs=9 * MB)
    assert 1 - none.peak / batch.peak == pytest.approx(0.40, abs=0.01)


def test_layers_add_up_to_what_pytorchs_tracker_sees_after_the_forward_pass() -> None:
    step = Step(edsr("batch", blocks=4), 4, 24, "l1")
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = EDSR(norm="batch", blocks=4)
        degraded, clean = torch.rand(4, 3, 24, 24), torch.rand(4, 3, 48, 48)
        tracker = MemTracker()
        tracker.track_external(network, degraded, clean)
        with tracker:
            loss = l1(network(degraded), clean).mean()
            seen = tracker.get_tracker_snapshot("current")[CPU]
        del loss
    activations = next(size for kind, size in seen.items() if getattr(kind, "value", kind) == "Activation")
    assert sum(layer.saved for layer in forecast(step).layers) == pytest.approx(activations, rel=1e-4)


def test_without_norm_dncnn_keeps_one_map_for_each_activation() -> None:
    profile = forecast(Step(NetworkSpec("DnCNN", {"norm": "none", "depth": 6, "features": 8}), 2, 10))
    one_map = 2 * 8 * 10 * 10 * 4
    layers = {layer.name: layer for layer in profile.layers}
    activations = [layer for layer in layers.values() if layer.kind == "ReLU"]
    assert [layer.saved for layer in activations] == [one_map] * 5
    assert layers["body.10"].shared == one_map
    assert layers["body.10"].shape == (2, 1, 10, 10)


def test_half_precision_halves_the_activations() -> None:
    step = Step(edsr("batch", blocks=4), 16, 48, "l1")
    full = memory_of(step).activations
    half = memory_of(Step(step.network, 16, 48, "l1", precision="bf16-mixed")).activations
    assert half == pytest.approx(full / 2, rel=0.05)


def test_adam_holds_two_copies_of_the_parameters_and_sgd_one() -> None:
    network = NetworkSpec("DnCNN", {"norm": "none", "depth": 4})
    adam, sgd = (memory_of(Step(network, 1, 8, optimizer=name)) for name in ("adam", "sgd"))
    assert adam.optimizer == pytest.approx(2 * adam.parameters, rel=1e-3)
    assert sgd.optimizer == sgd.parameters


@pytest.mark.parametrize(
    ("network", "batch", "patch"),
    [("DnCNN", 32, 40), ("EDSR", 16, 48), ("SRResNet", 16, 24)],
)
def test_recomputed_batch_norm_costs_at_most_eight_percent_of_the_peak(network: str, batch: int, patch: int) -> None:
    def peak(norm: Norm, recompute: str) -> int:
        spec = NetworkSpec(network, {"norm": norm, "recompute": recompute})
        return memory_of(Step(spec, batch, patch)).peak

    without = peak("none", "none")
    assert peak("batch", "norm") <= 1.08 * without < peak("batch", "none")


def test_the_forecast_leaves_the_random_stream_alone() -> None:
    before = torch.get_rng_state()
    forecast(Step(edsr(blocks=1), 1, 8))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("quantity", "unit"), [("batch", 1), ("patch", 4), ("features", 8), ("depth", 1)])
def test_the_largest_size_fits_and_the_next_does_not(quantity: str, unit: int) -> None:
    step = Step(EDSR(blocks=2, norm="batch").spec, 2, 16)
    budget = 20 * MB
    found = largest(step, quantity, budget, unit)
    assert found % unit == 0
    assert memory_of(step.having(quantity, found)).peak <= budget < memory_of(step.having(quantity, found + unit)).peak


def test_nothing_fits_in_no_memory() -> None:
    assert largest(Step(edsr(blocks=1), 2, 16), "batch", 1000) == 0


def test_no_network_is_tried_that_is_smaller_than_it_can_be() -> None:
    step = Step(NetworkSpec("DnCNN", {"depth": 17, "features": 8}), 2, 16)
    least = memory_of(step.having("depth", 2)).peak
    assert [largest(step, "depth", budget) for budget in (least - 1, least)] == [0, 2]


def test_what_is_wrong_with_a_step_itself_is_said() -> None:
    with pytest.raises(UserError, match="adm"):
        largest(Step(edsr(blocks=1), 2, 16, optimizer="adm"), "batch", 20 * MB)


def test_times_are_compared_round_by_round() -> None:
    assert time_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 4.0]) == 2.0
    times = measure_times([Step(edsr(blocks=1), 1, 8)] * 2, CPU, rounds=2)
    assert [len(of_step) for of_step in times] == [2, 2]
    assert all(elapsed > 0 for of_step in times for elapsed in of_step)


def test_in_the_history_of_cuda_workspace_is_what_lives_within_one_convolution() -> None:
    trace = [
        {"action": "alloc", "addr": 1, "size": 512, "time_us": 10},  # the output
        {"action": "alloc", "addr": 2, "size": 1024, "time_us": 11},  # within
        {"action": "free_requested", "addr": 2, "size": 1024, "time_us": 12},
        {"action": "free_completed", "addr": 2, "size": 1024, "time_us": 12},
        {"action": "free_completed", "addr": 9, "size": 64, "time_us": 13},  # older than the history
        {"action": "alloc", "addr": 2, "size": 2048, "time_us": 30},  # the same place again, outside
        {"action": "free_completed", "addr": 1, "size": 512, "time_us": 40},
    ]
    found = [(a.size, a.born, a.died, a.workspace) for a in _traced_allocations(trace, [(9, 20), (50, 60)])]
    assert found == [(512, 10, 40, False), (1024, 11, 12, True), (2048, 30, None, False)]


class OnFakeCuda(TorchDispatchMode):
    """Which operators run, and the bytes of the storages that they leave behind beside those of `before`."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.operators: list[str] = []
        self._before = [tensor.untyped_storage() for tensor in before]
        self._seen = weakref.WeakKeyDictionary[torch.UntypedStorage, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators.append(str(func))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                assert tensor.device.type == "cuda", func
                self._seen[tensor.untyped_storage()] = tensor.untyped_storage().nbytes()
        for storage in self._before:  # changed in place, as counters are
            self._seen.pop(storage, None)
        return result

    @property
    def alive(self) -> int:
        return sum(self._seen.values())


@pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch is built without CUDA and has no operators for it")
@pytest.mark.skipif(torch.__version__ < (2, 15), reason="traces on fake CUDA tensors from PyTorch 2.15 on")
@pytest.mark.parametrize(
    ("spec", "batch", "patch", "loss", "mib"),
    [
        (NetworkSpec("EDSR", {"scale": 2}), 16, 48, "l1", {"batch": 632.1, "none": 344.1}),
        (NetworkSpec("DnCNN", {"depth": 17}), 128, 40, "half_squared_error", {"batch": 1550.8, "none": 800.8}),
        (NetworkSpec("SRResNet", {"scale": 4}), 16, 24, "l1", {"batch": 280.7, "none": 206.4}),
    ],
    ids=["EDSR", "DnCNN", "SRResNet"],
)
def test_forward_on_cuda_without_data_keeps_what_the_forecast_says(
    spec: NetworkSpec, batch: int, patch: int, loss: str, mib: dict[Norm, float]
) -> None:
    """With CUDA's own choice of operators. Backward cannot be traced so: its engine asks for a GPU."""
    for norm, expected in mib.items():
        step = Step(NetworkSpec(spec.name, spec.arguments | {"norm": norm}), batch, patch, loss)
        with FakeTensorMode(allow_non_fake_inputs=True):
            with torch.device("cuda"):
                network = build(step.network)
                for module in network.modules():  # constants are made on the CPU, and `to` moves no fake tensors
                    for name, buffer in list(module.named_buffers(recurse=False)):
                        setattr(module, name, torch.empty_like(buffer, device="cuda"))
                degraded = torch.empty(batch, network.channels, patch, patch)
                clean = torch.empty(batch, network.channels, patch * network.scale, patch * network.scale)
            with OnFakeCuda([*network.parameters(), *network.buffers()]) as traced:
                value = find_loss(loss)(network(degraded), clean).mean()
        assert value.device.type == "cuda"
        norms = sum("cudnn_batch_norm" in operator for operator in traced.operators)
        assert norms == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        assert (norms > 0) == (norm == "batch")
        assert traced.alive == sum(layer.saved for layer in forecast(step).layers)
        assert traced.alive / 2**20 == pytest.approx(expected, abs=0.05)


def test_a_gpu_reserves_more_than_tensors_take_so_nvidia_smi_shows_a_smaller_share_saved() -> None:
    batch, none = (forecast(Step(edsr(norm), 16, 48, "l1")) for norm in ("batch", "none"))
    for found in (batch, none):
        assert found.memory is not None
        assert found.device is not None
        assert found.memory.peak <= found.device.allocated <= 1.01 * found.memory.peak  # with the batch and rounding
        assert found.device.allocated < found.device.reserved == found.device.used - CONTEXT
        assert found.device.reserved % (2 * 2**20) == 0
    assert batch.device is not None
    assert none.device is not None
    assert 0.15 < 1 - none.device.used / batch.device.used < 0.30


def test_after_the_replayed_steps_no_more_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(edsr("batch", blocks=4), 16, 48, "l1")
    reserved = forecast(step).device
    monkeypatch.setattr("restore.profiling.forecasting.REPLAYED_STEPS", 6)
    assert forecast(step).device == reserved
