"""What each comparison is about and what would decide it, stated before there are data.

A folder of studies keeps the hash, commit and date of each criterion from the first start on. A report says for each
verdict whether its criterion is older than its data.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

VOID_DB = 1.0  # an arm that does not end so far above its input was never trained


@dataclass(frozen=True)
class Criterion:
    """What decides a comparison.

    Attributes:
        estimand: the quantity, in words.
        unit: of it: `dB`, `x` (a ratio), `%`, or none.
        direction: the claim says that the estimand is `above` the threshold, `below` it, or `between` it and `upper`.
        threshold, upper: in that unit.
        margin: what does not matter in practice. `equal` means that the 90 % interval lies within the margin around no
            effect (two one-sided tests at 5 %). None: the claim knows no `equal`.
        void: when the comparison says nothing.
    """

    estimand: str
    unit: str
    direction: Literal["above", "below", "between"]
    threshold: float
    margin: float | None = None
    upper: float | None = None
    void: str = f"an arm ends less than {VOID_DB:g} dB above its input, or more than half of its runs fail"

    @property
    def hash(self) -> str:
        """Changes with any part of it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


def registered(
    before: Mapping[str, Mapping[str, str]], criteria: Mapping[str, Criterion], commit: str | None
) -> dict[str, dict[str, str]]:
    """For each criterion its hash, and commit and date of the first start with it; a changed one counts as new.

    Args:
        before: what a folder of studies holds already.
        criteria: by name, those of this start.
        commit: of this start.
    """
    found = {name: dict(entry) for name, entry in before.items()}
    for name, criterion in criteria.items():
        if found.get(name, {}).get("hash") != criterion.hash:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            found[name] = {"hash": criterion.hash, "commit": commit or "unknown", "since": now}
    return found


DENOISING_MARGIN_DB = 0.05
SUPER_RESOLUTION_MARGIN_DB = 0.03

# The contrast at full size: one estimand for each pair, at every length.
CONTRAST: dict[str, Criterion] = {
    "DnCNN": Criterion(
        "batch norm less no norm, each at its own best init and learning rate (Adam), mean PSNR on BSD68, sigma 25, "
        "at equal steps",
        "dB", "above", 0.0, DENOISING_MARGIN_DB,
    ),
    "EDSR": Criterion(
        "no norm less batch norm in EDSR-baseline x2, each at its own best learning rate (Adam), mean PSNR on B100, "
        "sr-y, at equal steps",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "EDSR, gain 0": Criterion(
        "no norm less batch norm whose last gain in each block starts at 0, otherwise as for EDSR",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "SRResNet": Criterion(
        "EDSR-baseline x2 without norm less SRResNet x2 with batch norm, each at its own best learning rate (Adam), "
        "L1, mean PSNR on B100, sr-y, at equal steps",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "WDSR-B, weight": Criterion(
        "weight norm less batch norm in WDSR-B x2, each at its own best learning rate (Adam), mean PSNR on B100, sr-y, "
        "at equal steps",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "WDSR-B, none": Criterion(
        "no norm less batch norm in WDSR-B x2, otherwise as for weight norm",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
}  # fmt: skip

# Steps and seconds until DnCNN reaches these on BSD68, between the ends of runs of two lengths on a straight line over
# the logarithm of their steps; not reached in the longest run: censored, and said so.
TARGETS_DB = (27.5, 28.0, 28.5, 28.75)
