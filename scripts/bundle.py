"""Make a bundled model of a run folder: python scripts/bundle.py NAME RUN_FOLDER --data.root DATA"""

from pathlib import Path

from restore import bundled, cli
from restore.bundled.bundle import make, make_int8
from restore.data.catalog import default_root
from restore.hardware import keep_pages
from restore.report import print_rows

EXAMPLES = """examples:
  python scripts/bundle.py dncnn-gray-25 runs/dncnn_gray_25_fast --data.root DATA
  python scripts/bundle.py dncnn-gray-25 --data.root DATA    quantizes it anew
  python scripts/models_page.py
"""


def main() -> int:
    parser = cli.ArgumentParser("", "Measure a trained network and put it into the package, with a card.", EXAMPLES)
    parser.prog = "python scripts/bundle.py"
    parser.add_argument("name", choices=bundled.MODELS, help="what it is to be: %(choices)s", metavar="name")
    parser.add_argument(
        "run", type=Path, nargs="?", help="a run folder of restore.train; without one only the 8-bit network is made"
    )
    parser.add_argument(
        "--data.root", dest="root", type=Path, default=default_root(), help="of the test sets (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=bundled.FOLDER, help="for the files (default: the package's)")
    args = parser.parse_args()
    keep_pages()  # without it, half of the measurement's time goes into page faults
    model = bundled.MODELS[args.name]
    file = args.folder / model.weights.name
    if args.run:
        print_rows([row.summary for row in make(args.run, model, args.root, args.folder)])
        print(f"written: {file} ({file.stat().st_size / 1e6:.2f} MB) and {model.card.name}")
    print(f"{model.name}: {make_int8(model, args.root, args.folder)}")
    return 0


if __name__ == "__main__":
    cli.run(main)
