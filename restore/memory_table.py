"""The tables of `restore memory`: where a training step's memory goes, by network and norm."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from restore import recipes
from restore.choices import Norm, Quantity, Recompute, StepPrecision
from restore.errors import UserError
from restore.files import write_atomically
from restore.hardware import available_device, keep_pages
from restore.memory import RECIPES
from restore.memory_verdict import PAPER, ProfileRow, gpu_table, verdicts
from restore.models import NetworkSpec, complete
from restore.models.norm import normalizes_output
from restore.profiling import (
    Memory,
    Profile,
    Step,
    forecast,
    largest,
    measure,
    measure_times,
    reduced,
    time_ratio,
)
from restore.progress import progress
from restore.provenance import provenance
from restore.report import plot_lines, plot_stacks, write_csv
from restore.tables import print_table

TIMED_FLOPS = 50e9  # of a step that is timed beside a forecast: a fraction of a second on two cores

MIB = 2**20
UNITS = {"KiB": 2**10, "MiB": MIB, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
CATEGORIES = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations for backward",
    "temporaries": "temporaries",
    "workspace": "convolution workspace",
}
STEPS_OF_QUANTITY: dict[Quantity, int] = {"batch": 1, "patch": 4, "features": 8, "depth": 1}
SWEEPS: dict[Quantity, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "patch": (12, 24, 48, 96, 192),
    "features": (8, 16, 32, 64, 128, 256),
    "depth": (3, 6, 12, 24, 48),
}


@dataclass(frozen=True)
class Steps:
    """Training steps of several networks and norms; fields are the options of `restore memory`.

    Attributes:
        networks: names of `RECIPES` or YAML files.
        norms: each network is taken with each.
        batch, patch, scale, optimizer: in place of the recipe's.
        precision, channels_last, compile: see `Step`.
        device: where real steps are measured; None: forecast.
    """

    networks: Sequence[str]
    norms: Sequence[Norm]
    batch: int | None = None
    patch: int | None = None
    scale: int | None = None
    optimizer: str | None = None
    precision: StepPrecision = "fp32"
    channels_last: bool = False
    compile: float | None = None
    device: str | None = None

    def recipe(self, name: str) -> Step:
        """The step of a named network or a YAML file, changed as is asked for.

        Raises:
            UserError: there is no such recipe, or it is none.
        """
        path = recipes.find(RECIPES.get(name, name))
        try:
            recipe = recipes.read(path)
            arguments = dict(recipe["model"].get("init_args", {}))
            network = NetworkSpec(str(recipe["model"]["class_path"]), arguments)
            data, optim = recipe["data"], recipe.get("optim", {})
            batch, patch = self.batch or data["batch_size"], self.patch or data["patch_size"]
        except OSError as error:
            raise UserError(f"{path}: no such recipe; known networks: {', '.join(RECIPES)}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not a recipe of a network, data.batch_size and data.patch_size ({error})"
            ) from error
        network = _complete(network)
        if self.scale and "scale" in network.arguments:
            network = NetworkSpec(network.name, {**network.arguments, "scale": self.scale})
        return Step(
            network=network,
            batch=batch,
            patch=patch,
            loss=optim.get("loss", Step.loss),
            optimizer=self.optimizer or optim.get("optimizer", Step.optimizer),
            precision=self.precision,
            channels_last=self.channels_last,
            compile=self.compile,
            optimizer_args={} if self.optimizer else optim.get("optimizer_args") or {},
        )


@dataclass(frozen=True)
class Shown:
    """What is shown and written of steps; fields are the options of `restore memory`.

    Attributes:
        recompute: what is kept for backward, each in turn.
        sweep: the saving against this quantity, in place of the table.
        layers: what each layer keeps.
        json, csv, plot: files to write.
    """

    recompute: Sequence[Recompute]
    sweep: Quantity | None = None
    layers: bool = False
    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None


def compare(steps: Steps, shown: Shown) -> None:
    """Print the table of networks and norms, and write files.

    Raises:
        UserError: there is no such recipe or device, or a file cannot be written.
    """
    steps = _prepared(steps)
    if shown.sweep:
        rows = _sweep(steps, shown.sweep, shown.plot)
    else:
        rows = _rows(steps, shown.recompute)
        _print_rows(steps, rows)
        if steps.device != "cpu":
            print_table(*gpu_table(rows))
        for line in verdicts(rows):
            print(line)
    if shown.layers:
        for row in rows:
            _print_layers(row)
    if shown.json:
        document = {
            "rows": [_plain(row) | {"layers": [layer._asdict() for layer in row.profile.layers]} for row in rows],
            "provenance": provenance(torch.device(steps.device or "cpu")),
        }
        write_atomically(shown.json, json.dumps(document, indent=1) + "\n")
    if shown.csv:
        write_csv(shown.csv, [_plain(row) for row in rows])
    if shown.plot and not shown.sweep:
        bars: dict[str, dict[str, dict[str, float]]] = {}
        for row in rows:
            if memory := row.profile.memory:
                parts = {label: getattr(memory, name) / MIB for name, label in CATEGORIES.items()}
                bars.setdefault(row.network, {})[row.variant] = parts
        if not bars:
            raise UserError(f"{shown.plot}: not written, because no training step fits into {steps.device}'s memory")
        plot_stacks(shown.plot, bars, f"MiB at the peak of a training step ({rows[0].profile.source})")
    for written in filter(None, (shown.json, shown.csv, shown.plot)):
        print(f"written: {written}")


def _prepared(steps: Steps) -> Steps:
    keep_pages()  # as training does: it is part of what a step takes
    return replace(steps, device=str(available_device(steps.device))) if steps.device else steps


def _complete(spec: NetworkSpec) -> NetworkSpec:
    """With all arguments of the network, defaults too."""
    try:
        return complete(spec)
    except ValueError as error:
        raise UserError(str(error)) from error


def _with(step: Step, **arguments: object) -> Step:
    return replace(step, network=NetworkSpec(step.network.name, step.network.arguments | arguments))


def _title(name: str, step: Step) -> str:
    scale = step.network.arguments.get("scale", 1)
    return f"{name}{f' x{scale}' if scale > 1 else ''}, {step.batch} x {step.patch}x{step.patch}"


def _rows(steps: Steps, recomputed: Sequence[Recompute]) -> list[ProfileRow]:
    planned: list[tuple[str, str, Step]] = []
    for name in steps.networks:
        step = steps.recipe(name)
        for norm in steps.norms:
            for recompute in recomputed if normalizes_output(norm) else ["none"]:
                variant = norm if recompute == "none" else f"{norm}, recomputed"
                planned.append((_title(name, step), variant, _with(step, norm=norm, recompute=recompute)))
    if {"SRResNet", "EDSR-baseline"} <= set(steps.networks) and list(steps.norms) == ["batch", "none"]:
        theirs = steps.recipe("SRResNet")
        ours = replace(steps.recipe("EDSR-baseline"), batch=theirs.batch, patch=theirs.patch)
        title = f"{PAPER}: " + _title("", theirs).strip(", ")
        planned.append((title, "SRResNet", theirs))
        planned.append((title, "EDSR-baseline", _with(ours, scale=theirs.network.arguments["scale"])))
    profiles: dict[str, Profile] = {}
    for _, _, step in progress(planned, "Measuring" if steps.device else "Forecasting"):
        if repr(step) not in profiles:
            profiles[repr(step)] = measure(step, torch.device(steps.device)) if steps.device else forecast(step)
    return [ProfileRow(network, variant, profiles[repr(step)]) for network, variant, step in planned]


def _print_rows(steps: Steps, rows: list[ProfileRow]) -> None:
    source = rows[0].profile.source
    for network in dict.fromkeys(row.network for row in rows):
        group = [row for row in rows if row.network == network]
        reference = group[0]
        timed, times = _times(group, steps.device)
        table = []
        for row in group:
            cells = {"MiB": row.variant}
            for name in CATEGORIES:
                cells[name] = f"{getattr(row.profile.memory, name) / MIB:,.1f}" if row.profile.memory else "-"
            cells["peak"] = f"{row.peak / MIB:,.1f}" if row.peak else "out of memory"
            saving = reference.peak - row.peak if reference.peak and row.peak and row is not reference else None
            cells["saved"] = f"{saving / MIB:,.1f}" if saving is not None else ""
            cells["saved %"] = f"{saving / reference.peak:.1%}" if saving is not None and reference.peak else ""
            cells["time"] = f"{times[row.variant]:.2f}x" if row.variant in times else ""
            table.append(cells)
        settings = [source, steps.precision, *(["channels-last"] if steps.channels_last else [])]
        if group[0].profile.step.compile is not None:
            settings.append(f"compiled, budget {group[0].profile.step.compile:g}")
        print_table(f"{network} ({', '.join(settings)}; {timed})", table)


def _times(group: Sequence[ProfileRow], device: str | None) -> tuple[str, dict[str, float]]:
    """What was timed, and each variant's time as a ratio to the first; small real steps if none were measured."""
    fitting = [row for row in group if row.profile.memory]
    if not fitting:
        return "none fits, so none is timed", {}
    steps = [row.profile.step for row in fitting]
    rounds = 5
    if device is None:
        rounds = 3
        size = reduced(steps[0], TIMED_FLOPS)
        steps = [replace(step, batch=size.batch, patch=size.patch) for step in steps]
    found = measure_times(steps, torch.device(device or "cpu"), rounds)
    example = f"time: real steps of {steps[0].batch} x {steps[0].patch}x{steps[0].patch} on {device or 'cpu'}"
    return example, {row.variant: time_ratio(own, found[0]) for row, own in zip(fitting, found, strict=True)}


def _print_layers(row: ProfileRow) -> None:
    table = [
        {
            "layer": layer.name or "(loss)",
            "kind": layer.kind,
            "output": "x".join(map(str, layer.shape)),
            "saved MiB": f"{layer.saved / MIB:,.2f}",
            "shared MiB": f"{layer.shared / MIB:,.2f}",
        }
        for layer in row.profile.layers
    ]
    print_table(f"{row.network}, {row.variant}: kept for backward ({row.profile.source})", table)


def _sweep(steps: Steps, quantity: Quantity, plot: Path | None) -> list[ProfileRow]:
    """The saving of each network against a quantity, of all norms but the first relative to that: printed, and plotted
    if asked for.
    """
    if len({*steps.norms}) < 2:
        raise UserError(f"--sweep compares norms: name at least two with --norms, not only {steps.norms[0]}")
    rows: list[ProfileRow] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in steps.networks:
        recipe = steps.recipe(name)
        table = []
        for value in progress(SWEEPS[quantity], name):
            step = recipe.having(quantity, value)
            found = {norm: forecast(_with(step, norm=norm)) for norm in steps.norms}
            rows += [ProfileRow(_title(name, step), norm, profile) for norm, profile in found.items()]
            peaks = {norm: (profile.memory or Memory()).peak for norm, profile in found.items()}
            cells = {quantity: str(value)} | {f"{norm}, MiB": f"{peak / MIB:,.1f}" for norm, peak in peaks.items()}
            reference, *others = peaks
            for norm in others:
                saving = 1 - peaks[norm] / peaks[reference]
                cells["saved %" if len(others) == 1 else f"{norm} saves %"] = f"{saving:.1%}"
                line = name if len(others) == 1 else f"{name}, {norm}"
                lines.setdefault(line, []).append((value, 100 * saving))
            table.append(cells)
        print_table(f"{_title(name, recipe)} (forecast, {steps.precision})", table)
    if plot:
        plot_lines(plot, lines, quantity, f"memory saved, relative to {steps.norms[0]}, %")
    return rows


def _plain(row: ProfileRow) -> dict[str, Any]:
    """For CSV and JSON, sizes in bytes."""
    step, memory = row.profile.step, row.profile.memory
    sizes: dict[str, int | None] = {part.name: getattr(memory, part.name, None) for part in fields(Memory)}
    device = row.profile.device._asdict() if row.profile.device else {}
    return {
        "network": row.network,
        "variant": row.variant,
        "source": row.profile.source,
        **{name: value for name, value in asdict(step).items() if name != "network"},
        "spec": json.dumps(asdict(step.network)),
        "trained_by": step.optimizer,  # `optimizer` is the size of its state
        **sizes,
        "peak": row.peak,
        "tensors": row.profile.tensors,
        **{f"cuda_{name}": device.get(name) for name in ("allocated", "reserved", "used")},
    }


def print_fitting(steps: Steps, size: str) -> None:
    """Print what fits into a memory of `size`, such as 12GiB, for each network and norm.

    Raises:
        UserError: `size` is none.
    """
    steps = _prepared(steps)
    budget = _size(size)
    for name in steps.networks:
        recipe = steps.recipe(name)
        table = []
        for norm in steps.norms:
            step = _with(recipe, norm=norm)
            cells: dict[str, str] = {"norm": norm}
            for quantity, unit in progress(STEPS_OF_QUANTITY.items(), f"{name}, {norm}"):
                value = largest(step, quantity, budget, unit)
                cells[quantity] = str(value or "none fits")
                if steps.device and value:
                    real = measure(step.having(quantity, value), torch.device(steps.device)).memory
                    held = f"{real.peak / MIB:,.0f} MiB" if real else "out of memory"
                    cells[quantity] += f" ({steps.device}: {held})"
            table.append(cells)
        print_table(f"{_title(name, recipe)}: what fits in {size} (forecast, {steps.precision})", table)
        if "batch" in steps.norms and "none" in steps.norms:
            print(_bought(recipe))


def _bought(step: Step) -> str:
    """What the network could be without batch norm, in the memory that it takes with it."""
    memory = forecast(_with(step, norm="batch")).memory
    assert memory is not None
    without = _with(step, norm="none")
    depth = largest(without, "depth", memory.peak)
    features = largest(without, "features", memory.peak, STEPS_OF_QUANTITY["features"])
    layers = "blocks" if "blocks" in step.network.arguments else "layers"
    return (
        f"With batch norm {step.value('depth')} {layers} x {step.value('features')} take {memory.peak / MIB:,.0f} MiB; "
        f"without it, the same memory holds {depth} {layers} x {step.value('features')} "
        f"or {step.value('depth')} x {features}."
    )


def _size(text: str) -> int:
    """Bytes of `12GiB`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w+)", text)
    if not match or match[2] not in UNITS:
        raise UserError(f"--budget: expected a size such as 12GiB ({', '.join(UNITS)}), not {text!r}")
    return int(float(match[1]) * UNITS[match[2]])
