"""Make a bundled model of a run folder: python scripts/bundle.py RUN_FOLDER NAME --data.root DATA"""

from pathlib import Path

from restore import bundled, cli
from restore.bundled.bundle import make
from restore.data.catalog import default_root
from restore.hardware import keep_pages
from restore.report import print_rows

EXAMPLES = """examples:
  python scripts/bundle.py runs/dncnn_gray_25_fast dncnn-gray-25 --data.root DATA
  python scripts/models_page.py
"""


def main() -> int:
    parser = cli.ArgumentParser("", "Measure a trained network and put it into the package, with a card.", EXAMPLES)
    parser.prog = "python scripts/bundle.py"
    parser.add_argument("run", type=Path, help="a run folder of restore.train")
    parser.add_argument("name", choices=bundled.MODELS, help="what it is to be: %(choices)s", metavar="name")
    parser.add_argument(
        "--data.root", dest="root", type=Path, default=default_root(), help="of the test sets (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=bundled.FOLDER, help="for the files (default: the package's)")
    args = parser.parse_args()
    keep_pages()  # without it, half of the measurement's time goes into page faults
    model = bundled.MODELS[args.name]
    print_rows([row.summary for row in make(args.run, model, args.root, args.folder)])
    file = args.folder / model.weights.name
    print(f"written: {file} ({file.stat().st_size / 1e6:.2f} MB) and {model.card.name}")
    return 0


if __name__ == "__main__":
    cli.run(main)
