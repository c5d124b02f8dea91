"""The figures of the contrast at full size, from the rounds that are complete."""

from collections.abc import Sequence

from restore.studies.contrast import FULL_SIZE, NORMS, SIZES
from restore.studies.contrast_results import PAIRS, Compared, Runs, lengths_of, step_time
from restore.studies.criteria import DENOISING_MARGIN_DB, SUPER_RESOLUTION_MARGIN_DB
from restore.studies.curves import gain, psnr
from restore.studies.figures import Curves, Forest
from restore.studies.step_times import StepTimes, processor

Points = list[tuple[float, Sequence[float]]]
STEPS = "steps, decay included"


def figures(runs: Runs, pairs: Sequence[Compared], times: StepTimes | None) -> dict[str, Curves | Forest]:
    """By name; those without anything to show are left out."""
    denoising: dict[str, Points] = {
        f"DnCNN {size.name}": [
            (runs[(size.name, "batch"), length][0].steps, _effect(runs, size.name, length))
            for length in lengths_of(runs, *((size.name, norm) for norm in NORMS))
        ]
        for size in SIZES
    }
    super_resolution: dict[str, Points] = {
        name: [(one.steps, one.effect.values) for one in pairs if one.name == name] for name in PAIRS if name != "DnCNN"
    }
    drawn: dict[str, Curves | Forest] = {
        "effect": _curves(
            "Batch norm minus no norm, DnCNN, BSD68, sigma 25", STEPS, "dB", denoising, margin=DENOISING_MARGIN_DB
        ),
        "super-resolution": _curves(
            "Without batch norm minus with it, x2, B100", STEPS, "dB", super_resolution,
            margin=SUPER_RESOLUTION_MARGIN_DB,
        ),
        "forest": _forest(pairs),
        "ends": _curves("DnCNN-17x64: ends of runs, BSD68", STEPS, "PSNR (dB)", _ends(runs)),
        "minutes": _curves(
            "DnCNN: PSNR over time", f"minutes of {processor(times)}", "PSNR (dB)", _minutes(runs, times)
        ),
    }  # fmt: skip
    return {name: one for name, one in drawn.items() if (one.lines if isinstance(one, Curves) else one.rows)}


def _curves(title: str, x_label: str, y_label: str, lines: dict[str, Points], margin: float | None = None) -> Curves:
    kept = {name: points for name, points in lines.items() if points}
    return Curves(title, x_label, y_label, kept, log_x=True, margin=margin)


def _effect(runs: Runs, size: str, length: int) -> Sequence[float]:
    return gain(*(runs[(size, norm), length] for norm in NORMS)).values


def _ends(runs: Runs) -> dict[str, Points]:
    return {
        f"{FULL_SIZE.name}, {norm}": [
            (runs[(FULL_SIZE.name, norm), length][0].steps, psnr(runs[(FULL_SIZE.name, norm), length]).values)
            for length in lengths_of(runs, (FULL_SIZE.name, norm))
        ]
        for norm in NORMS
    }


def _minutes(runs: Runs, times: StepTimes | None) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for size in SIZES:
        for norm in NORMS:
            arm = (size.name, norm)
            rounds = [runs[arm, length] for length in lengths_of(runs, arm)]
            lines[f"{size.name}, {norm}"] = [
                (step_time([one], times, arm) * one[0].steps / 60, psnr(one).values) for one in rounds
            ]
    return lines


def _forest(pairs: Sequence[Compared]) -> Forest:
    rows = []
    for one in {pair.name: pair for pair in pairs}.values():  # the longest of each
        low, high = one.effect.interval() or (one.effect.mean, one.effect.mean)
        rows.append((f"{one.says}, {one.steps} steps", one.effect.mean, low, high, one.criterion.margin or 0.0))
    return Forest("All contrasts at full size, longest complete round", "dB, 95 % interval", rows)
