"""One page of what scripts/gpu.sh measured: python scripts/gpu_page.py FOLDER writes FOLDER/index.md of its JSON files.

Measured memory stands beside the forecast, which is made here for the steps that were measured.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from restore.files import write_atomically
from restore.models import NetworkSpec
from restore.profiling import Step, forecast
from restore.report import markdown_table

MIB = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    (folder,) = map(Path, sys.argv[1:] if argv is None else argv)
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    lines = ["# Measured by scripts/gpu.sh", ""]
    for source in {_source(document): None for document in documents.values()}:
        lines += [f"On {source}.", ""]
    for name, document in documents.items():
        lines += [*(_memory(name, document) if name.startswith("memory") else _benchmark(document)), ""]
    if (folder / "contrast").exists():
        lines += ["The contrast at full size: see `contrast`.", ""]
    write_atomically(folder / "index.md", "\n".join(lines))
    print(f"written: {folder / 'index.md'}")
    return 0


def _source(document: dict[str, Any]) -> str:
    origin = document["provenance"]
    return f"{origin['device']}, PyTorch {origin['packages']['torch']}, commit {origin['commit']}"


def _benchmark(document: dict[str, Any]) -> Iterator[str]:
    yield f"## {document['title']}"
    yield ""
    yield from markdown_table(document["rows"])


def _memory(name: str, document: dict[str, Any]) -> Iterator[str]:
    yield f"## {name.replace('-', ', ', 1)}: measured and forecast, MiB"
    yield ""
    yield from markdown_table([_compared(row) for row in document["rows"]])


def _compared(row: dict[str, Any]) -> dict[str, str]:
    spec = json.loads(row["spec"])
    step = Step(
        NetworkSpec(spec["name"], spec["arguments"]),
        row["batch"],
        row["patch"],
        row["loss"],
        row["trained_by"],
        row["precision"],
        row["channels_last"],
    )
    expected = forecast(step)
    assert expected.memory is not None
    assert expected.device is not None
    cells = {"network": row["network"], "norm": row["variant"], "source": row["source"]}
    pairs = {
        "tensors": (row["tensors"], expected.tensors),
        "peak": (row["peak"], expected.memory.peak),
        "reserved": (row["cuda_reserved"], expected.device.reserved),
        "nvidia-smi": (row["cuda_used"], expected.device.used),
    }
    for name, (real, predicted) in pairs.items():
        cells[name] = "" if real is None else f"{real / MIB:,.1f}"
        cells[f"{name}, forecast"] = "" if predicted is None else f"{predicted / MIB:,.1f}"
    return cells


if __name__ == "__main__":
    raise SystemExit(main())
