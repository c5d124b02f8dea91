"""python -m restore.train: a configuration -> a run folder."""

import logging
import os
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import PositiveInt
from pytorch_lightning import Trainer, seed_everything

from restore import command
from restore.errors import UserError
from restore.hardware import Hardware
from restore.models import RestorationNetwork
from restore.report import print_rows
from restore.training import Faults, Optimization, PatchData, fit

EXAMPLES = """examples:
  python -m restore.train                                        the quickstart: a small DnCNN on photographs
  python -m restore.train --model.norm none                      the same without batch normalisation
  python -m restore.train --config configs/dncnn_gray_25.yaml --data.root DATA
  python -m restore.train --config configs/edsr_baseline_x2.yaml --data.train FOLDER --trainer.max_steps 10000
  python -m restore.train --config configs/edsr_baseline_x2.yaml --model.norm batch --output runs/edsr-bn
  python -m restore.train --config configs/edsr_x4.yaml --weights runs/edsr_x2/weights.safetensors
  python -m restore.train --config runs/edsr-bn/config.yaml --output runs/edsr-bn --resume auto
  python -m restore.train --print_config                         all settings with their values
"""

# All that a configuration may name: networks and degradations; transforms; callbacks, loggers, strategies.
# Importing a module executes it, so a configuration from elsewhere must not choose which; the user may, by naming
# further packages in the environment variable RESTORE_EXTENSIONS, separated by commas.
EXTENSIONS = ["restore", "albumentations", "pytorch_lightning"]

LARGEST = 2**31 - 1
MOST_ENTRIES = 10_000  # of a configuration
LARGEST_OF_NETWORK = 10_000  # layers or features


def build_parser() -> ArgumentParser:
    """The command line: every argument of the network, the data, the optimisation and Lightning's Trainer."""
    of_user = [name for name in os.environ.get("RESTORE_EXTENSIONS", "").split(",") if name]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*EXTENSIONS, *of_user])
    parser = ArgumentParser(
        prog="python -m restore.train",
        description="Train a restoration network; without arguments, the quickstart.",
        epilog=EXAMPLES,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="a YAML file of settings; flags override it")
    parser.add_argument("--output", type=Path, help="run folder (default: runs/ and the name of the configuration)")
    parser.add_argument("--weights", type=Path, help="start from these weights; another scale's upsampler stays new")
    parser.add_argument("--resume", type=str, help="`auto`: from the folder's newest checkpoint; or a checkpoint")
    parser.add_argument("--checkpoint_every", type=PositiveInt, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, batches and noise")
    parser.add_subclass_arguments(RestorationNetwork, "model", help="the network", required=True)
    parser.add_class_arguments(PatchData, "data")
    parser.add_class_arguments(Optimization, "optim")
    parser.add_class_arguments(Hardware, "hardware")
    parser.add_class_arguments(Faults, "faults")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)
    parser.link_arguments("seed", "data.seed")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if not any(arg.startswith("--config") for arg in args):
        args = ["--config", str(command.CONFIGS / "quickstart.yaml"), *args]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    parser = build_parser()
    _check_extent(args)
    try:
        settings = parser.parse_args(args)
        _check(settings, parser.get_defaults())
        seed_everything(settings.seed, verbose=False)
        made = parser.instantiate(settings)
        text = _dump(parser, settings)
    except (ArgumentError, ValueError) as error:
        raise UserError(_essence(str(error))) from error
    output = settings.output or Path("runs") / Path(str(settings.config[-1])).stem
    summary = fit(
        made.model,
        made.data,
        made.optim,
        output,
        trainer=vars(made.trainer),
        weights=settings.weights,
        hardware=made.hardware,
        faults=made.faults,
        resume=settings.resume,
        checkpoint_every=settings.checkpoint_every,
        config=text,
    )
    if summary:
        _print_summary(summary, output)
    return 0


def _check_extent(args: list[str]) -> None:
    """Raises UserError where a configuration stands for more than anybody writes: aliases of aliases multiply."""
    for name in (arg.partition("=")[2] if arg.startswith("--") else arg for arg in args):
        if not name.endswith((".yaml", ".yml")):
            continue
        try:
            root = yaml.compose(Path(name).read_text(), yaml.SafeLoader)
            entries = _entries(root, {}) if root else 0
        except RecursionError as error:
            raise UserError(f"{name}: lists within lists without end") from error
        except (OSError, ValueError, yaml.YAMLError):
            continue  # the parser says what is wrong
        if entries > MOST_ENTRIES:
            raise UserError(f"{name}: its aliases make {entries:.0e} entries of it, more than {MOST_ENTRIES}")


def _entries(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node of YAML has, each alias counted as what it stands for."""
    if id(node) not in known:
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = (child if isinstance(child, tuple) else (child,) for child in children)
        known[id(node)] = 1 + sum(_entries(child, known) for pair in pairs for child in pair)
    return known[id(node)]


def _check(settings: Namespace, defaults: Namespace) -> None:
    """What jsonargparse lets pass: null for any number, a scalar for a group, numbers beyond all measure."""
    for group in ("data", "optim", "hardware", "faults", "trainer"):
        if not isinstance(settings[group], Namespace):
            raise UserError(f"{group}: expected a group of settings, found {settings[group]!r}")
    for key, value in settings.items():
        if value is None and defaults.get(key) is not None:
            raise UserError(f"{key}: expected a value like {defaults[key]}, found null")
        most = LARGEST_OF_NETWORK if key.startswith("model.") else LARGEST
        if isinstance(value, int) and value > most:
            raise UserError(f"{key}: expected at most {most}, found {value}")


def _dump(parser: ArgumentParser, settings: Namespace) -> str:
    """The text of `config.yaml`, Lightning's enumerations by their values."""
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*Dump of a value that does not round-trip: a tuple is serialized as list")
        return str(parser.dump(settings))


def _essence(message: str) -> str:
    """The lines of jsonargparse's message that say what is wrong, as one."""
    noise = ("Does not validate", "Subtypes:", "Errors:", "- Expected a <class 'NoneType'>", "Given value")
    lines = [line.strip() for line in message.splitlines()]
    essence = " ".join(line.removeprefix("- ") for line in lines if not line.startswith(noise))
    return essence.replace("import_path_allowlist in set_parsing_settings", "the environment's RESTORE_EXTENSIONS")


def _print_summary(summary: dict[str, Any], output: Path) -> None:
    print_rows(summary["results"])
    memory = next(f"{name.removesuffix('_mib')} {value:.0f} MiB" for name, value in summary.items() if "_mib" in name)
    print(
        f"{summary['steps']} steps, {summary['weights']} weights from step {summary['best_step']}; {memory}; "
        f"{summary['images_per_s']:.1f} images/s, {summary['data_wait_share']:.1%} of the time waiting for data"
    )
    print(f"written: {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


if __name__ == "__main__":
    command.run(main)
