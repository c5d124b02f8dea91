"""The log in the output folder: with which settings its images were made, and what became of each.

Because of it, a run that was interrupted continues where it stopped, and images of different settings never mix. A
process has its own file: `restore-log.json`, and under torchrun `restore-log.rank1.json` and so on; the next single
process gathers them.
"""

import json
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.errors import UserError, listed
from restore.files import remove_leftovers, write_atomically
from restore.folder.plan import Job

LOG_NAME = "restore-log.json"
LOG_NAMES = re.compile(r"restore-log(\.rank\d+)?\.json")
SECONDS_BETWEEN_WRITES = 10.0


class Log:
    """What one process says of the images that it makes.

    An image is finished when its file is there, was made with these settings (no earlier than `since`, the time
    when the folder was begun with them) and its input is still the one that it was made of: by path, size and time if
    the log knows them, else, if a run was killed before it wrote its log, no younger than the file.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rank: int, provenance: Mapping[str, Any]) -> None:
        self.folder = folder
        self.path = folder / (f"restore-log.rank{rank}.json" if rank else LOG_NAME)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they come back from the file
        self.provenance = provenance
        self.since = math.inf
        self.images: dict[str, dict[str, Any]] = {}
        self._earlier: dict[str, dict[str, Any]] = {}  # of all processes
        self._written = 0.0

    def begin(self, jobs: Sequence[Job], share: Sequence[Job], overwrite: bool, alone: bool) -> None:
        """Compare with what the folder holds and write the log for the first time.

        Args:
            jobs: what all processes are going to do: none of it may be there if the folder has no log.
            share: what this process is going to do.
            overwrite: restore everything again, with any settings the folder was made before.
            alone: no other process works on this folder: logs of other ranks are from earlier runs.

        Raises:
            UserError: the folder holds images of other settings, of other inputs or of unknown origin, and not
                `overwrite`.
        """
        logs = {path: _read(path) for path in sorted(self.folder.glob("*.json")) if LOG_NAMES.fullmatch(path.name)}
        same = {path: log for path, log in logs.items() if log and log["settings"] == self.settings}
        if not overwrite:
            for path in logs.keys() - same.keys():
                raise UserError(f"{path}: {self._difference(logs[path])}; use --overwrite or choose another --output")
            if not logs and (there := [job.target for job in jobs if job.target.exists()]):
                raise UserError(
                    f"{listed(map(str, there), 1)}: already exists, and no {LOG_NAME} says how it was made; "
                    "--overwrite, or choose another --output"
                )
        for path, log in same.items():
            self._earlier |= log["images"]
            if alone or path == self.path:
                self.images |= log["images"]
        if not overwrite and same:
            self._check_results(jobs, same.values())
        self.write()
        if same and not overwrite:
            self.since = min(log["since"] for log in same.values())  # ranks begin one after the other
        if math.isinf(self.since):
            self.since = self.path.stat().st_mtime  # by the clock that dates the images, too
        self.write()
        for path in logs.keys() - {self.path}:
            log_now = _read(path)  # another rank may have replaced it
            if alone or log_now is None or log_now["settings"] != self.settings:
                path.unlink(missing_ok=True)
        remove_leftovers(job.target for job in share)

    def _check_results(self, jobs: Sequence[Job], logs: Collection[Mapping[str, Any]]) -> None:
        """Raises UserError if a result that is there was made of another input, or nothing says of which."""
        since = min(log["since"] for log in logs)
        results = [job for job in jobs if job.target.exists() and job.target.stat().st_mtime >= since]
        hint = "--overwrite, or choose another --output"
        if others := [job for job in results if self._of_another(job)]:
            targets = listed([str(job.target) for job in others], 1)
            raise UserError(f"{targets}: made of {self._earlier[self._key(others[0])]['input']}; {hint}")
        ended = all(log["summary"] for log in logs)  # so that they tell of all images
        if strangers := [str(job.target) for job in results if ended and self._key(job) not in self._earlier]:
            raise UserError(f"{listed(strangers, 1)}: already exists, and {LOG_NAME} does not know it; {hint}")

    def _difference(self, log: dict[str, Any] | None) -> str:
        if log is None:
            return "not a log that this version wrote"
        before, now = log["settings"], self.settings
        changed = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
        changes = [f"{key} {_change(before.get(key), now.get(key))}" for key in changed]
        return f"the images there were made with other settings ({'; '.join(changes)})"

    def finished(self, job: Job) -> bool:
        """Whether there is nothing left to do."""
        known = self._earlier.get(self._key(job), {})
        try:
            made, source = job.target.stat().st_mtime, job.source.stat()
        except OSError:
            return False
        if made < self.since or known.get("status") == "failed" or self._of_another(job):
            return False
        if "input_bytes" in known:
            return (known["input_bytes"], known.get("input_mtime_ns")) == (source.st_size, source.st_mtime_ns)
        return made >= source.st_mtime

    def _of_another(self, job: Job) -> bool:
        """Whether the log says that the job's file was made of another input."""
        known = self._earlier.get(self._key(job), {})
        return "input_bytes" in known and known.get("input") != str(job.source.resolve())

    def add(self, job: Job, entry: Mapping[str, Any]) -> None:
        """Note what became of an image."""
        self.images[self._key(job)] = {**entry, "input": str(job.source.resolve())}
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def keep(self, job: Job) -> None:
        """Note that an image was finished before, of the input that is there; what is known of how stays."""
        source = job.source.stat()
        state = {"input_bytes": source.st_size, "input_mtime_ns": source.st_mtime_ns}
        self.add(job, {**state, **self._earlier.get(self._key(job), {}), "status": "kept"})

    def network(self, job: Job) -> str:
        """The name of the network that restored an image, if it is known."""
        return str(self._earlier.get(self._key(job), {}).get("network", ""))

    def _key(self, job: Job) -> str:
        return job.target.relative_to(self.folder).as_posix()

    def write(self, summary: Mapping[str, Any] | None = None) -> None:
        """Write the log, atomically; `summary` when the run is over."""
        document = {
            "settings": self.settings,
            "since": self.since if math.isfinite(self.since) else None,
            "provenance": self.provenance,
            "summary": summary,
            "images": self.images,
        }
        write_atomically(self.path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        self._written = time.monotonic()


def _change(before: object, now: object) -> str:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{before}, now {now}"
    names, names_now = ", ".join(before), ", ".join(now)  # of networks, by which their files' hashes are stored
    return f"{names}, now {names_now if names_now != names else 'other files of the same name'}"


def _read(path: Path) -> dict[str, Any] | None:
    """A log, `since` infinite if its writer died at once; None for a file that is no log."""
    try:
        log: dict[str, Any] = json.loads(path.read_text())
        log.setdefault("summary", None)
        log["since"] = math.inf if log["since"] is None else float(log["since"])
        json.dumps(log["images"], allow_nan=False)  # as it will be written again
        whole = isinstance(log["settings"], dict) and all(isinstance(entry, dict) for entry in log["images"].values())
        return log if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
