"""python -m restore.export: a weights file -> another runtime's program or another project's checkpoint."""

from pathlib import Path

from restore import command
from restore.compat import WRITABLE, load_any, save_layout
from restore.portable import FORMS, SIZES, write_program

EXAMPLES = """examples:
  python -m restore.export runs/quickstart/weights.safetensors --format onnx --output dncnn.onnx
  python -m restore.export weights.safetensors --format openvino --output edsr.xml
  python -m restore.export weights.safetensors --format torch --output edsr.pt2
  python -m restore.export weights.safetensors --format kair --output dncnn.pth       (chaiNNer, spandrel, KAIR)
  python -m restore.export weights.safetensors --format basicsr --output edsr.pth
  python -m restore.export weights.safetensors --format edsr-pytorch --output edsr.pt
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.export", "Write a network for another runtime or project.", EXAMPLES)
    parser.add_argument("weights", type=Path, help="a weights file, ours or another project's")
    parser.add_argument("--format", choices=[*FORMS, *WRITABLE], required=True)
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--scale", type=int, help="at which an MDSR is to work (default: as in the file)")
    args = parser.parse_args(argv)

    network = load_any(args.weights, scale=args.scale).network
    if args.format in WRITABLE:
        print(f"written: {args.output}, for {save_layout(args.output, network, args.format)}")
        return 0
    difference = write_program(network, args.format, args.output)
    sizes = " and ".join(f"{width}x{height}" for _, height, width in SIZES)
    print(f"written: {args.output}; differs from the network by at most {difference:.1e} (random images, {sizes})")
    return 0


if __name__ == "__main__":
    command.run(main)
