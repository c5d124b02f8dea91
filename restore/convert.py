"""python -m restore.convert: another project's checkpoint -> a weights file."""

from pathlib import Path

from restore import command
from restore.checkpoint import save_weights
from restore.compat import LAYOUTS, load_any

EXAMPLES = f"""examples:
  python -m restore.convert edsr_baseline_x2-1bc95232.pt --output edsr_baseline_x2.safetensors
  python -m restore.convert edsr_narrow.pth --output edsr_narrow.safetensors --res_scale 0.1
  python -m restore.convert mdsr_baseline-a00cab12.pt --output mdsr_x3.safetensors --scale 3

reads: {", ".join(layout.name for layout in LAYOUTS)}
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.convert", "Turn another project's checkpoint into ours.", EXAMPLES)
    parser.add_argument("input", type=Path, help="the checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="the weights file to write")
    parser.add_argument("--res_scale", type=float, help="of an EDSR (default: 0.1 for 32 blocks of 256, else 1)")
    parser.add_argument("--scale", type=int, help="that an MDSR works at (default: 4)")
    args = parser.parse_args(argv)

    weights = load_any(args.input, res_scale=args.res_scale, scale=args.scale)
    save_weights(args.output, weights)
    network = weights.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{args.input}: {type(network).__name__} x{network.scale}, {parameters:,} parameters; written: {args.output}")
    return 0


if __name__ == "__main__":
    command.run(main)
