"""How fast training, loading and inference are beside a plain reference, here; what networks make of files.

python scripts/benchmark.py train --network DnCNN --seconds 20
python scripts/benchmark.py host
python scripts/benchmark.py load --images 8
python scripts/benchmark.py load --simulate 800 80000
python scripts/benchmark.py infer --network EDSR --size 340x510
python scripts/benchmark.py real --images 2 --root DATA
python scripts/benchmark.py camera --train 1000 --root DATA
python scripts/benchmark.py quality --root DATA
python scripts/benchmark.py front --root DATA
python scripts/benchmark.py start
"""

import argparse

from benchmarks import camera, front, host, infer, load, quality, real, start, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for module in (train, host, load, infer, front, real, camera, quality, start):
        name = module.__name__.rpartition(".")[2]
        sub = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0], description=module.__doc__)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
