"""The run over a folder: what is left to do, the log, the summary."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restore.errors import UserError
from restore.folder.log import Log
from restore.folder.networks import Networks
from restore.folder.pipeline import Outcome, Pipeline, Writing, show_finished
from restore.folder.plan import Job
from restore.inference import Runner
from restore.progress import progress
from restore.ranks import ranks_of_torchrun


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        outcomes: one for each image, those that were finished before first.
        elapsed_s: from the first image to the last.
        waited_s: for how much of it the network had nothing to do.
        unlogged: why the log does not tell of all that was done; empty if it does.
    """

    log: Path
    outcomes: list[Outcome] = field(default_factory=list)
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    unlogged: str = ""

    def having(self, status: str) -> list[Outcome]:
        """The outcomes that are `restored`, `kept` or `failed`."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def megapixels(self) -> float:
        """Of the inputs that were restored."""
        return sum(outcome.height * outcome.width for outcome in self.having("restored")) / 1e6

    @property
    def numbers(self) -> dict[str, float]:
        """For the log."""
        return {
            **{status: len(self.having(status)) for status in ("restored", "kept", "failed")},
            "megapixels": self.megapixels,
            "elapsed_s": self.elapsed_s,
            "waited_s": self.waited_s,
            "megapixels_per_s": self.megapixels / max(self.elapsed_s, 1e-9),
        }


def restore_folder(
    runner: Runner | Networks,
    jobs: Sequence[Job],
    output: Path,
    settings: Mapping[str, Any],
    writing: Writing | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Summary:
    """Restore images into `output`, which remembers in its log how they were made.

    An image that is finished is kept: its file is there, made with these settings and no older than its input. No
    image stops the others. Under torchrun each process does its share (RANK of WORLD_SIZE, each with its own log).

    Args:
        runner: on any device, or several, with the choice among them.
        jobs: from `plan`.
        output: the folder that `jobs` were planned for.
        settings: JSON values that decide what results look like; equal settings continue a run, others are refused.
        writing: how files are written.
        overwrite: restore everything again.
        provenance: what the log is to say of program and machine.

    Raises:
        UserError: `output` holds images of other settings or of unknown origin, or cannot be written.
    """
    writing = writing or Writing()
    ranks = ranks_of_torchrun()
    share = ranks.share(jobs)
    log = Log(output, {**settings, "quality": writing.quality}, ranks.rank, provenance or {})
    log.begin(jobs, share, overwrite, alone=ranks.count == 1)
    summary = Summary(log.path)

    networks = runner if isinstance(runner, Networks) else Networks.single(runner)
    left = []
    for job in share:
        if not overwrite and log.finished(job):
            log.keep(job)
            notes = show_finished(job, output, writing, networks.scale, log.network(job))
            summary.outcomes.append(Outcome(job, "kept", notes=notes))
        else:
            left.append(job)
    pipeline = Pipeline(networks, writing)
    start = time.perf_counter()
    try:
        with closing(pipeline.run(left, output)) as outcomes:
            for outcome in progress(outcomes, "Restoring", len(left)):
                summary.outcomes.append(outcome)
                try:
                    log.add(outcome.job, _entry(outcome))
                except UserError as error:  # a full disk, which must not cost the summary
                    summary.unlogged = str(error)
    finally:
        summary.elapsed_s = time.perf_counter() - start
        summary.waited_s = pipeline.waited_s
        try:
            log.write(summary.numbers)
            summary.unlogged = ""
        except UserError as error:
            summary.unlogged = str(error)
    return summary


def _entry(outcome: Outcome) -> dict[str, Any]:
    """What the log says of an image that was not kept."""
    if outcome.status == "failed":
        return {"status": "failed", "reason": outcome.reason}
    return {
        "status": "restored",
        "input_bytes": outcome.input_bytes,
        "input_mtime_ns": outcome.input_mtime_ns,
        "height": outcome.height,
        "width": outcome.width,
        "seconds": round(outcome.seconds, 4),
        **({"network": outcome.network} if outcome.network else {}),
        **({"luma_only": True} if outcome.luma_only else {}),
        "left_out": list(outcome.notes),
    }
