"""restore convert: another project's checkpoint -> a weights file."""

from restore import cli

EXAMPLES = """examples:
  restore convert edsr_baseline_x2-1bc95232.pt --output edsr.safetensors
  restore convert edsr.pth --output edsr.safetensors --res_scale 0.1
  restore convert mdsr.pt --output mdsr_x3.safetensors --scale 3

Reads EDSR and MDSR of EDSR-PyTorch, EDSR of BasicSR and mmagic, DnCNN of KAIR,
cszn and SaoYan. infer, evaluate, export and train read them directly, too.
"""


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser("convert", "Make a weights file of another project's checkpoint.", EXAMPLES)
    parser.add_argument("input", type=cli.path, help="the checkpoint")
    parser.add_argument("--output", type=cli.path, required=True, help="the weights file to write")
    parser.add_argument("--res_scale", type=float, help="of an EDSR (default: 0.1 for 32 blocks of 256, else 1)")
    parser.add_argument("--scale", type=int, help="the scale at which to run an MDSR (default: 4)")
    args = parser.parse_args(argv)
    from restore.checkpoint import save_weights
    from restore.foreign_checkpoints import load_any

    weights = load_any(args.input, res_scale=args.res_scale, scale=args.scale)
    save_weights(args.output, weights)
    network = weights.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{args.input}: {type(network).__name__} x{network.scale}, {parameters:,} parameters; written: {args.output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
