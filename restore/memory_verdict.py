"""What rows of memory mean: how much batch norm costs, in tensors and as a GPU would show it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from restore.profiling import CONTEXT, Profile

CLAIM = 0.40  # Lim et al. 2017, section 3.1: "approximately 40% of memory usage [...], compared to SRResNet"
TOLERANCE = 0.05
PAPER = "SRResNet vs EDSR-baseline"  # the paper's own comparison, which differs in more than the norm
NOT_STATED = (
    "The paper does not state the scale, patch size and batch size of its comparison, the activation of its SRResNet "
    "(here PReLU, which keeps a map that ReLU does not), or which memory was read."
)
MIB = 2**20


class ProfileRow(NamedTuple):
    """A profile and where it stands in the table.

    Attributes:
        network: what is compared in this and its neighboring rows.
        variant: the norm, or the network where two are compared.
        profile: its memory.
    """

    network: str
    variant: str
    profile: Profile

    @property
    def peak(self) -> int | None:
        """Bytes, or None if the device has too little."""
        return self.profile.memory.peak if self.profile.memory else None


def verdicts(rows: Sequence[ProfileRow]) -> list[str]:
    """A sentence for each pair, from a network with norm to one without: the same network, or the paper's two."""
    lines = []
    for network, group in _groups(rows):
        without = next((row for row in group if row.profile.step.network.arguments["norm"] == "none"), None)
        for row in group:
            if row is without or not (without and without.peak and row.peak):
                continue
            if row.profile.step.network.arguments["recompute"] == "norm":
                lines.append(f"{network}: {row.variant}: {row.peak / without.peak:.2f}x the peak of {without.variant}")
                continue
            saving = row.peak - without.peak
            verdict = "supported" if saving / row.peak >= CLAIM - TOLERANCE else "not supported"
            compared = "the paper's comparison" if network.startswith(PAPER) else "the same network without its norm"
            lines.append(
                f"{network}: {verdict}: {saving / row.peak:.1%} less memory from {row.variant} to {without.variant} "
                f"({saving / 1e6:,.1f} of {row.peak / 1e6:,.1f} MB; the claim: about {CLAIM:.0%}; {compared})"
            )
    return lines + ([NOT_STATED] if any(row.network.startswith(PAPER) for row in rows) else [])


def gpu_table(rows: Sequence[ProfileRow]) -> tuple[str, list[dict[str, str]]]:
    """Title and rows of a table in MiB of what a GPU shows, or would show by the forecast."""
    table = []
    for network, group in _groups(rows):
        first = group[0].profile.device
        for row in group:
            device = row.profile.device
            if first is None or device is None:
                continue
            share = "" if row is group[0] else f"{1 - device.used / first.used:.1%}"
            table.append({
                "MiB": f"{network}: {row.variant}",
                "allocated": f"{device.allocated / MIB:,.0f}",
                "reserved": f"{device.reserved / MIB:,.0f}",
                "nvidia-smi": f"{device.used / MIB:,.0f}",
                "saved %": share,
            })  # fmt: skip
    estimates = (
        f"what a GPU would show (estimates: CUDA's context with its kernels {CONTEXT / MIB:.0f}, before CUDA 11.7 up "
        "to 1,000; cuDNN's workspace as large as a convolution's input and output)"
    )
    measured = all(row.profile.source == "cuda" for row in rows)
    return "what the GPU shows" if measured else estimates, table


def _groups(rows: Sequence[ProfileRow]) -> Iterator[tuple[str, list[ProfileRow]]]:
    for network, group in groupby(rows, lambda row: row.network):
        yield network, list(group)
