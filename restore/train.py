"""python -m restore.train: a configuration -> a run folder."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from enum import Enum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore import cli, extensions, recipes
from restore.errors import UserError, nearest
from restore.wrong_settings import in_words

if TYPE_CHECKING:  # with torch and Lightning, which are imported only if there is something to train
    from jsonargparse import ArgumentParser, Namespace

EXAMPLES = """examples:
  restore train                          the quickstart: a small DnCNN on photos
  restore train --model.norm none        the same without batch norm
  restore train --config dncnn_gray_25 --data.root DATA
  restore train --config edsr_baseline_x2 --data.train FOLDER --optim.lr 2e-4
  restore train --config edsr_baseline_x2 --model.norm batch --output runs/bn
  restore train --config edsr_x4 --weights runs/edsr_x2/weights.safetensors
  restore train --config edsr_baseline_x2 --output runs/edsr --resume auto

settings, by group (--help.all lists them, --print_config shows their values):
  --model.*     the network: norm, depth, features, ...
  --data.*      train, val, root, patch_size, batch_size, degradation, ...
  --optim.*     loss, optimizer, lr, schedule, ...
  --trainer.*   Lightning's Trainer: max_steps, devices, precision, ...
  --hardware.*  threads, channels_last, compile, ...
  --faults.*    what to do about steps that would spoil the weights
"""

# All that a configuration may name besides the user's packages (see `extensions.py`): networks and degradations;
# transforms; callbacks, loggers, strategies.
IMPORTABLE = ["restore", "albumentations", "pytorch_lightning"]

DESCRIPTION = "Train a restoration network; without arguments, the quickstart."
GROUPS = ("model", "data", "optim", "hardware", "faults", "trainer")

ENDS = ("max_steps", "max_epochs", "max_time", "min_steps", "min_epochs")  # of a run
NUMBERS_OR_SHARES = {
    f"limit_{kind}_batches": f"how many batches of {words}, or which share of them (1: one; 1.0: all)"
    for kind, words in (("train", "an epoch"), ("val", "a validation"), ("test", "a test"), ("predict", "a prediction"))
}
MAX_INTEGER = 2**31 - 1
MAX_LAYERS_OR_FEATURES = 10_000  # layers or features


def build_parser() -> ArgumentParser:
    """The command line: every argument of the network, the data, the optimization and Lightning's Trainer."""
    from jsonargparse import ArgumentParser, set_parsing_settings
    from pytorch_lightning import Trainer

    from restore.hardware import Hardware
    from restore.models import RestorationNetwork
    from restore.training import Faults, Optimization, PatchData

    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*IMPORTABLE, *extensions.packages()])
    parser = ArgumentParser(prog="restore train", description=DESCRIPTION, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a recipe by name or a YAML file; flags override it")
    _add_run_arguments(parser)
    parser.add_subclass_arguments(RestorationNetwork, "model", help="the network", required=True)
    parser.add_class_arguments(PatchData, "data")
    parser.add_class_arguments(Optimization, "optim")
    parser.add_class_arguments(Hardware, "hardware")
    parser.add_class_arguments(Faults, "faults")
    # `typing` has one cache for Union[int, float] and Union[float, int], and the first of them makes 1 into 1.0.
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, skip=set(NUMBERS_OR_SHARES))
    for name, meaning in NUMBERS_OR_SHARES.items():
        parser.add_argument(f"--trainer.{name}", type=int | float | None, help=meaning)
    parser.link_arguments("seed", "data.seed")
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=_path, help="run folder (default: runs/ and the name of the configuration)")
    parser.add_argument("--weights", type=_path, help="start from these weights; another scale's upsampler stays new")
    parser.add_argument("--resume", type=str, help="`auto`: from the folder's newest checkpoint; or a checkpoint")
    parser.add_argument("--checkpoint_every", type=cli.count, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, batches and noise")


def _short_parser() -> cli.ArgumentParser:
    """What `--help` shows: the options of the run itself, and the groups of all others."""
    parser = cli.ArgumentParser("train", DESCRIPTION, EXAMPLES)
    parser.add_argument("--config", help="a recipe by name or a YAML file; flags override it")
    _add_run_arguments(parser)
    return parser


def _path(text: str) -> str:
    """The type of an option that is a path, as text, which jsonargparse can write again."""
    cli.path(text)
    return text


def main(argv: list[str] | None = None) -> int:
    args = _with_recipes(sys.argv[1:] if argv is None else argv)
    short = _short_parser()
    if "--help" in args or "-h" in args:
        short.parse_args(["--help"])
    if "--help.all" in args:
        build_parser().print_help()
        return 0
    _check_groups(args, short)
    if "--quiet" in args:
        cli.silence()
        args = [*(arg for arg in args if arg != "--quiet"), "--trainer.enable_progress_bar", "false"]
    if not any(arg.startswith("--config") for arg in args):
        args = ["--config", str(recipes.CONFIGS / "quickstart.yaml"), *args]
    for name in (arg.partition("=")[2] if arg.startswith("--") else arg for arg in args):
        if name.endswith((".yaml", ".yml")):
            recipes.check_extent(Path(name))
    return _train(args)


def _with_recipes(args: list[str]) -> list[str]:
    """The arguments, with the path of a shipped recipe for its name, as in `--config edsr_x2`."""
    found = []
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.rpartition("=") if arg.startswith("--") else ("", "", arg)
        named = "--config" in (before, option)
        found.append(f"{option}{equals}{recipes.find(value)}" if named else arg)
    return found


def _check_groups(args: list[str], short: cli.ArgumentParser) -> None:
    """Raises UserError for an option of no known group, before torch is imported."""
    known = {option for action in short._actions for option in action.option_strings} | {"--print_config"}
    for option in (arg.partition("=")[0] for arg in args if arg.startswith("--")):
        if option not in known and option.partition(".")[0].removeprefix("--") not in (*GROUPS, "print_config"):
            short.error(f"unrecognized argument: {option}")


def _train(args: list[str]) -> int:
    from jsonargparse import ArgumentError
    from pytorch_lightning import seed_everything

    from restore.hardware import keep_pages
    from restore.training import fit

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    parser = build_parser()
    try:
        settings = parser.parse_args(args)
        _check(settings, parser.get_defaults())
        seed_everything(settings.seed, verbose=False)
        made = parser.instantiate(settings)
        text = _dump(parser, settings)
    except argparse.ArgumentTypeError as error:  # of a value in a file, whose name jsonargparse does not say
        raise UserError(f"checkpoint_every: {error}") from error
    except (ArgumentError, ValueError) as error:
        words = in_words(str(error)) + _meant(str(error), parser)
        raise UserError(_origin(str(error), args) + words) from error
    output = (
        cli.path(settings.output) if settings.output else _default_output(Path(str(settings.config[-1])).stem, text)
    )
    if made.hardware.keep_pages:
        keep_pages()
    summary = fit(
        made.model,
        made.data,
        made.optim,
        output,
        trainer=vars(made.trainer),
        weights=cli.path(settings.weights) if settings.weights else None,
        hardware=made.hardware,
        faults=made.faults,
        resume=settings.resume,
        checkpoint_every=settings.checkpoint_every,
        config=text,
    )
    if summary:
        _print_summary(summary, output)
    return 0


def _check(settings: Namespace, defaults: Namespace) -> None:
    """What jsonargparse lets pass: null for any number, a scalar for a group, enormous numbers."""
    from jsonargparse import Namespace

    for group in GROUPS[1:]:
        if not isinstance(settings[group], Namespace):
            raise UserError(f"{group}: expected a group of settings, found {settings[group]!r}")
    for key, value in settings.items():
        if value is None and defaults.get(key) is not None:
            raise UserError(f"{key}: expected a value like {defaults[key]}, found null")
        if key.startswith("model.") and isinstance(value, int) and value < 0:
            raise UserError(f"{key}: expected at least 0, found {value}")
        most = MAX_LAYERS_OR_FEATURES if key.startswith("model.") else MAX_INTEGER
        if isinstance(value, int) and value > most:
            raise UserError(f"{key}: expected at most {most}, found {value}")


def _dump(parser: ArgumentParser, settings: Namespace) -> str:
    """The text of `config.yaml`, Lightning's enumerations by their values."""
    import yaml

    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*Dump of a value that does not round-trip: a tuple is serialized as list")
        return str(parser.dump(settings))


def _origin(message: str, args: list[str]) -> str:
    """For the beginning of a message about a group: the configurations that set it if no flag does."""
    found = re.search(r"""(?:Parser key "|Group '|^Option ')(\w+)""", message)
    of_file = message.strip().startswith(("Unexpected config", "Problems parsing config"))
    if not of_file and (found is None or any(arg.startswith(f"--{found[1]}") for arg in args)):
        return ""
    files = [arg.partition("=")[2] or args[place + 1] for place, arg in enumerate(args) if arg.startswith("--config")]
    return f"{', '.join(files)}: "


def _meant(message: str, parser: ArgumentParser) -> str:
    """For the end of jsonargparse's message about an unknown word: which known ones there are."""
    if found := re.search(r"[Uu]nrecognized arguments: (--[^\s=]+)", message):
        return nearest(found[1], parser._option_string_actions)
    if found := re.search(r"^Option '(\w+)", message):
        return nearest(found[1], GROUPS)
    if found := re.search(r"Group '(\w+)' does not accept option '(\w+)'", message):
        options = parser._option_string_actions
        return nearest(found[2], [it.rpartition(".")[2] for it in options if it.startswith(f"--{found[1]}.")])
    return ""


def _default_output(name: str, text: str) -> Path:
    """`runs/name`, or `runs/name-2` and so on if runs of other settings are there."""
    wanted = _identity(text)
    for number in count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        config = folder / "config.yaml"
        if not config.exists() or _identity(config.read_text()) == wanted:
            return folder
    raise AssertionError


def _identity(text: str) -> Any:
    """Of a `config.yaml`, the settings that make one run another: not where it is, nor how long it is to continue."""
    import yaml

    try:
        settings = yaml.safe_load(text)
        others = {key: value for key, value in settings.items() if key not in ("config", "output", "resume")}
        trainer = {key: value for key, value in settings["trainer"].items() if key not in ENDS}
        return {**others, "trainer": trainer}
    except (yaml.YAMLError, AttributeError, KeyError):
        return None


def _print_summary(summary: dict[str, Any], output: Path) -> None:
    from restore.report import print_rows

    print_rows(summary["results"])
    peaks = {name: value for name, value in summary.items() if name.endswith("_mib")}
    memory = "".join(f"; {name.removesuffix('_mib')} {value:.0f} MiB" for name, value in peaks.items())
    print(f"{summary['steps']} steps, {summary['weights']} weights from step {summary['best_step']}{memory}")
    print(f"{summary['images_per_s']:.1f} images/s, {summary['data_wait_share']:.1%} of the time waiting for data")
    print(f"written: {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


if __name__ == "__main__":
    cli.run(main)
