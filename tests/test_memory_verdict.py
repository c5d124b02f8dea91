"""The sentences and the table about batch norm's share of the memory, of made-up profiles."""

from restore.memory_verdict import NOT_STATED, ProfileRow, gpu_table, verdicts
from restore.models import NetworkSpec
from restore.profiling import DeviceMemory, Memory, Profile, Source, Step

MIB = 2**20


def row(network: str, variant: str, norm: str, peak: int, used: int = 0, source: Source = "forecast") -> ProfileRow:
    step = Step(NetworkSpec("EDSR", {"norm": norm, "recompute": "none"}), 16, 48)
    device = DeviceMemory(peak * MIB, (used - 400) * MIB, used * MIB) if used else None
    return ProfileRow(network, variant, Profile(step, source, Memory(activations=peak * MIB), device=device))


def test_the_papers_comparison_and_a_networks_own_are_told_apart() -> None:
    own = [row("EDSR x2", "batch", "batch", 1000), row("EDSR x2", "none", "none", 800)]
    paper = [
        row("SRResNet vs EDSR-baseline: x4", "SRResNet", "batch", 1000),
        row("SRResNet vs EDSR-baseline: x4", "EDSR-baseline", "none", 580),
    ]
    first, second, last = verdicts(own + paper)
    assert first.startswith("EDSR x2: not supported: 20.0% less memory from batch to none (")
    assert first.endswith("the same network without its norm)")
    assert second.startswith("SRResNet vs EDSR-baseline: x4: supported: 42.0% less memory from SRResNet to EDSR-base")
    assert second.endswith("the paper's comparison)")
    assert last == NOT_STATED
    assert len(verdicts(own)) == 1


def test_a_gpus_table_gives_the_share_of_what_nvidia_smi_shows() -> None:
    rows = [row("EDSR", "batch", "batch", 700, 1200), row("EDSR", "none", "none", 400, 900)]
    title, table = gpu_table(rows)
    assert "estimates: CUDA's context" in title
    assert table[0] == {
        "MiB": "EDSR: batch",
        "allocated": "700",
        "reserved": "800",
        "nvidia-smi": "1,200",
        "saved %": "",
    }
    assert table[1]["saved %"] == "25.0%"
    measured, _ = gpu_table([row("EDSR", "batch", "batch", 700, 1200, "cuda")])
    assert "estimate" not in measured


def test_a_device_with_too_little_memory_has_no_row_in_its_table() -> None:
    assert gpu_table([row("EDSR", "batch", "batch", 700)])[1] == []
