"""One run, measurement or timing of a study, from the state that is kept of it to its record.

Every state is kept: a run that is stopped continues in mid-run, bit for bit.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from restore.checkpoint import Weights, load_weights, save_weights
from restore.files import write_atomically
from restore.images.tensors import quantize
from restore.inference import Runner, accelerate
from restore.metrics import psnr
from restore.provenance import provenance
from restore.studies.data import StudyData, scores
from restore.studies.experiment import Experiment, Record
from restore.studies.measurements import MEASUREMENTS
from restore.studies.probes import dead_features, kept_buffers
from restore.studies.requests import Measurement, Task, Timing, Trial, rounded
from restore.studies.step_times import Stopped, measure
from restore.studies.trajectory import Trajectory

Interrupted = Callable[[], bool]

TIMED_ROUNDS, TURN_S = 3, 1.0  # of the times of steps, for each seed


def train(
    experiment: Experiment,
    data: StudyData,
    seed: int,
    folder: Path,
    *,
    trial: bool = False,
    device: torch.device | None = None,
    interrupted: Interrupted = lambda: False,
) -> Record | None:
    """Train a network to its end, continuing from what is kept in `folder`; the weights are left there.

    Args:
        experiment: the run.
        data: the images.
        seed: of initial weights, batches and noise.
        folder: of the studies.
        trial: score the validation images only.
        device: where to train; default: the CPU.
        interrupted: is asked before each step.

    Returns:
        The record; None if interrupted.
    """
    device = device or torch.device("cpu")
    states = folder / "states"
    trunk, key = experiment.trunk_key(data, seed), experiment.key(data, seed)
    decay, current, beside = states / f"{key}.decay.pt", states / f"{trunk}.pt", states / f"{key}.trunk.pt"
    trajectory = Trajectory(experiment, data, seed, device)
    if decay.exists():
        trajectory.load(decay)
    else:
        if current.exists():
            trajectory.load(current)
        if trajectory.step > experiment.length:  # a longer run has gone on from there, and keeps its state
            current = beside
            trajectory = Trajectory(experiment, data, seed, device)
            kept = {int(path.suffixes[0][1:]): path for path in states.glob(f"{trunk}.*.pt")}
            nearest = max((step for step in kept if step <= experiment.length), default=0)
            if begun := beside if beside.exists() else kept.get(nearest):
                trajectory.load(begun)
        if not trajectory.advance(experiment.length, current, interrupted):
            return None
        trajectory.save(states / f"{trunk}.{experiment.length}.pt")
    if not trajectory.advance(experiment.steps, decay, interrupted):
        return None
    record = _record(experiment, data, seed, trajectory, trial)
    network = trajectory.network.eval().cpu()
    finite = record.failed_at is None
    weights = Weights(network, experiment.degradation.description, {"finite": finite}, [])
    save_weights(folder / "runs" / f"{key}.safetensors", weights)
    for state in (decay, beside):
        state.unlink(missing_ok=True)
    return record


def _record(experiment: Experiment, data: StudyData, seed: int, trajectory: Trajectory, trial: bool) -> Record:
    network, log = trajectory.network, trajectory.log
    degradation, channels = experiment.degradation, network.channels
    validation = data.validation_pairs(degradation, channels)
    tests = {} if trial else data.test_pairs(degradation, channels)
    failed_at = log.failed_at
    train_psnr = train_mode_psnr = dead = found = None
    psnrs: dict[str, list[float]] = {}
    if failed_at is None:
        pair = trajectory.pair(trajectory.step - 1)
        with torch.no_grad(), kept_buffers(network):
            train_mode_psnr = psnr(quantize(network(pair.degraded)), quantize(pair.clean)).mean().item()
        network.eval()
        with torch.no_grad():
            train_psnr = psnr(quantize(network(pair.degraded)), quantize(pair.clean)).mean().item()
        share = dead_features(network, [it.degraded for it in validation])
        dead = None if share is None else 100 * share
        runner = runner_of(experiment, network)
        found = scores(runner, validation, network.scale)
        psnrs = {name: scores(runner, pairs, network.scale) for name, pairs in tests.items()}
        if not all([*found, *(value for values in psnrs.values() for value in values)]):
            failed_at, found, psnrs = trajectory.step, None, {}
    return Record(
        experiment=experiment.description,
        seed=seed,
        psnr=psnrs,
        input_psnr={name: _mean(scores(None, pairs, network.scale)) for name, pairs in tests.items()},
        validation=None if found is None else _mean(found),
        validation_input=_mean(scores(None, validation, network.scale)),
        train_psnr=train_psnr,
        train_mode_psnr=train_mode_psnr,
        dead=dead,
        losses=log.losses,
        spikes=log.spikes,
        failed_at=failed_at,
        step_s=sorted(log.durations_s)[len(log.durations_s) // 2],
        probed=log.probed,
        provenance={name: it for name, it in provenance(network.device).items() if name != "command"},
    )


def runner_of(experiment: Experiment, network: Any) -> Runner:
    """What restores images with a trained network, in the precision of its training; the network stays as it is."""
    return accelerate(network, backend="torch", precision=experiment.precision, device=network.device)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def perform(task: Task, data: StudyData, folder: Path, device: torch.device, interrupted: Interrupted) -> bool:
    """Train, measure or time, and write the result to a file; False if interrupted."""
    request, path = task.request, folder / "runs" / f"{task.key(data)}.json"
    result: Any
    if isinstance(request, Timing):
        try:
            times = measure(
                dict(request.arms), data, device, rounds=TIMED_ROUNDS, turn_s=TURN_S, interrupted=interrupted
            )
        except Stopped:
            return False
        result = times.json
    elif isinstance(request, Measurement):
        path_of_weights = folder / "runs" / f"{request.of.key(data, task.seed)}.safetensors"
        at_hand = path_of_weights.exists()  # records from another machine come without weights
        if not at_hand and not train(request.of, data, task.seed, folder, device=device, interrupted=interrupted):
            return False
        weights = load_weights(path_of_weights)
        finite = bool(weights.training["finite"])
        result = MEASUREMENTS[request.by](weights.network, request.of, data, task.seed) if finite else None
    else:
        trial = isinstance(request, Trial)
        record = train(task.experiment, data, task.seed, folder, trial=trial, device=device, interrupted=interrupted)
        if record is None:
            return False
        result = rounded(record)
    write_atomically(path, json.dumps(result))
    return True
