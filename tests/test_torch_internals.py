"""What is expected of those parts of PyTorch that it does not promise."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from restore.torch_internals import (
    Ledger,
    activation_budget,
    batch_norm_statistics,
    profiled_events,
    storage_key,
    without_data,
)


def test_views_share_their_key_and_copies_do_not() -> None:
    tensor = torch.rand(4, 4)
    assert storage_key(tensor) == storage_key(tensor[1:].T)
    assert storage_key(tensor) != storage_key(tensor.clone())


def test_batch_norm_keeps_the_statistics_of_its_batch() -> None:
    norm, x = nn.BatchNorm2d(3), torch.rand(4, 3, 5, 5)
    kept = batch_norm_statistics(norm(x))
    assert kept is not None
    torch.testing.assert_close(kept[0], x.mean((0, 2, 3)))
    torch.testing.assert_close(kept[1], (x.var((0, 2, 3), unbiased=False) + norm.eps).rsqrt())
    with torch.no_grad():
        assert batch_norm_statistics(norm(x)) is None


def test_tensors_without_data_have_shapes_and_take_no_memory() -> None:
    with without_data():
        large = torch.empty(2**20, 2**20)
        assert nn.functional.relu(large).shape == (2**20, 2**20)


def test_the_budget_of_activations_is_set_within_only() -> None:
    before = torch._functorch.config.activation_memory_budget
    with activation_budget(0.25):
        assert torch._functorch.config.activation_memory_budget == 0.25
    assert torch._functorch.config.activation_memory_budget == before


def test_a_profile_has_a_tree_of_events_with_its_allocations() -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        with record_function("outer"):
            kept = torch.ones(1000)
        del kept
    (outer,) = (root for root in profiled_events(profiler) if root.name == "outer")
    pending, sizes = list(outer.children), []
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag.name == "Allocation":
            sizes.append(event.extra_fields.alloc_size)
    assert 4000 in sizes


class Diary(Ledger):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, int]] = []
        self._sizes: dict[int, int] = {}

    def born(self, key: int, size: int) -> None:
        self._sizes[key] = size
        self.lines.append(("born", size))

    def died(self, key: int) -> None:
        self.lines.append(("died", self._sizes[key]))


def test_a_ledger_follows_each_storage_once_from_birth_to_death() -> None:
    diary = Diary()
    with diary:
        a = torch.zeros(10)
        view = a[2:]
        b = view + 1
        del a
    assert diary.lines == [("born", 40), ("born", 32)]
    del view
    assert diary.lines[2:] == [("died", 40)]
    del b
    assert diary.lines[3:] == [("died", 32)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_history_of_cudas_allocator_holds_an_allocation() -> None:
    from restore.torch_internals import record_allocations, recorded_allocations

    device = torch.device("cuda", 0)
    record_allocations(True)
    try:
        kept = torch.ones(3 * 2**20, device=device)
        history = recorded_allocations(device)
    finally:
        record_allocations(False)
    assert kept.nbytes in [entry["size"] for entry in history if entry["action"] == "alloc"]
