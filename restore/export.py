"""restore export: a weights file -> another runtime's program or another project's checkpoint."""

from restore import cli
from restore.choices import EXPORT_FORMATS

EXAMPLES = """examples:
  restore export weights.safetensors --format onnx --output dncnn.onnx
  restore export weights.safetensors --format openvino --output edsr.xml
  restore export weights.safetensors --format torch --output edsr.pt2
  restore export weights.safetensors --format kair --output dncnn.pth
  restore export weights.safetensors --format basicsr --output edsr.pth
  restore export weights.safetensors --format edsr-pytorch --output edsr.pt

onnx: ONNX Runtime; openvino: .xml and .bin; torch: torch.export; kair: DnCNN in
KAIR, spandrel and chaiNNer; basicsr, edsr-pytorch: EDSR there.
"""


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser("export", "Write a network for another runtime or project.", EXAMPLES)
    parser.add_argument("weights", type=cli.path, help="a weights file, ours or another project's")
    parser.add_argument("--format", choices=EXPORT_FORMATS, required=True)
    parser.add_argument("--output", type=cli.path, required=True, help="the file to write")
    parser.add_argument("--scale", type=int, help="the scale at which to run an MDSR (default: the file's)")
    args = parser.parse_args(argv)
    from restore.exporters import SIZES, write_program
    from restore.foreign_checkpoints import load_any, save_layout
    from restore.layouts import WRITABLE

    network = load_any(args.weights, scale=args.scale).network
    if args.format in WRITABLE:
        print(f"written: {args.output}, for {save_layout(args.output, network, args.format)}")
        return 0
    difference = write_program(network, args.format, args.output)
    sizes = " and ".join(f"{width}x{height}" for _, height, width in SIZES)
    print(f"written: {args.output}; differs from the network by at most {difference:.1e} (random images, {sizes})")
    return 0


if __name__ == "__main__":
    cli.run(main)
