"""python -m restore.infer: images -> restored images."""

import sys
import time
from pathlib import Path

from restore import command, running
from restore.compat import load_any
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.images.io import has_alpha, list_images, read_image, write_image
from restore.inference import restore_image
from restore.progress import progress

EXAMPLES = """examples:
  python -m restore.infer --weights runs/quickstart/weights.safetensors --input photos/ --output restored/
  python -m restore.infer --weights edsr.safetensors --input a.png b.jpg --output enlarged/ --device cuda
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.infer", "Restore images with a trained network.", EXAMPLES)
    parser.add_argument("--weights", type=Path, required=True, help="a weights file")
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="images and folders of images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the restored images, same names")
    parser.add_argument("--scale", type=int, help="at which an MDSR is to work (default: as in the file)")
    running.add_arguments(parser, precision="auto")
    args = parser.parse_args(argv)

    runner, engine = running.runner(args, args.weights, load_any(args.weights, scale=args.scale), default_root())
    jobs = _plan(args.input, args.output)
    failures: list[str] = []
    remarks: list[str] = []
    pixels = 0
    start = time.perf_counter()
    for source, target in progress(jobs, "Restoring"):
        try:
            image = read_image(source)
            write_image(target, restore_image(runner, image))
        except UserError as error:
            failures.append(str(error))
            continue
        pixels += image.shape[0] * image.shape[1]
        if has_alpha(source):
            remarks.append(f"{source}: written without its alpha channel")
    elapsed_s = time.perf_counter() - start

    done = len(jobs) - len(failures)
    print(f"{done} of {len(jobs)} images restored, {pixels / 1e6 / elapsed_s:.2f} megapixels/s: {args.output}")
    print(f"network run by {engine}")
    for remark in remarks:
        print(f"note: {remark}")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _plan(inputs: list[Path], output: Path) -> list[tuple[Path, Path]]:
    """Which file becomes which, sub-folders mirrored; no result may fall on an input or on another result."""
    jobs: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_file():
            jobs.append((path, output / path.name))
        else:
            jobs += [(file, output / file.relative_to(path)) for file in list_images(path)]
    sources = {source.resolve() for source, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input; choose another --output")
        if (other := taken.setdefault(target, source)) != source:
            raise UserError(f"{target}: both {other} and {source} would be written there")
    return jobs


if __name__ == "__main__":
    command.run(main)
