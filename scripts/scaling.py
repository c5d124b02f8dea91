"""What a published recipe costs on 1, 8 or 64 devices: a model, of what is measured and what is assumed.

python scripts/scaling.py --measured edsr_baseline_x2=398.6 dncnn_gray_25=968.1      this machine's step, in ms
python scripts/scaling.py --tflops 20 --price 2                                      assumed GPUs

The number of patches is the recipe's. A batch is the recipe's too, but at least one patch for each device: then there
are fewer steps, and the learning rate has to be found anew. Measured step times are taken as they are, on one device.
Of GPUs nothing is known here but what is assumed: a step takes its operations (counted) at the assumed rate, but no
less than an assumed time for its launch, and then a ring of all devices sums up the gradients at an assumed bandwidth.
Memory is the forecast of `restore.memory` in float32, and the gradients once more for their buckets on several.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

from restore import recipes
from restore.models import NetworkSpec, complete
from restore.profiling import Step, flops, forecast
from restore.tables import print_table

RECIPES = ["edsr_baseline_x2", "edsr_x2", "srresnet_x4", "dncnn_gray_25"]
MIB = 2**20


@dataclass(frozen=True)
class Devices:
    """Assumed of each device.

    Attributes:
        rate: operations a second that a training step achieves, FLOP/s.
        launch_s: the least time of a step.
        bandwidth: bytes a second to the next device.
    """

    rate: float
    launch_s: float
    bandwidth: float

    def step_s(self, operations: float, gradient_bytes: float, count: int) -> float:
        """Of a step of so many operations on `count` devices together."""
        exchange = 2 * (count - 1) / count * gradient_bytes / self.bandwidth  # Patarasuk & Yuan 2009
        return max(operations / count / self.rate, self.launch_s) + exchange


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="names of recipes")
    parser.add_argument("--measured", nargs="+", default=[], metavar="RECIPE=MS", help="step times of one device here")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--tflops", type=float, default=20, help="assumed: achieved by a GPU (default: %(default)s)")
    parser.add_argument("--launch-ms", type=float, default=5, help="assumed: the least time of a step")
    parser.add_argument("--bandwidth", type=float, default=10, help="assumed: GB/s to the next GPU")
    parser.add_argument("--price", type=float, default=2, help="assumed: of a GPU for an hour")
    args = parser.parse_args()
    measured = {name: float(ms) / 1e3 for name, _, ms in (entry.partition("=") for entry in args.measured)}
    settings = {name: recipes.read(recipes.find(name)) for name in {**measured, **dict.fromkeys(args.recipes)}}

    if measured:
        table = []
        for name, seconds in measured.items():
            step, steps = _step(settings[name])
            table.append({
                "recipe": name,
                "steps": f"{steps:,}",
                "batch": str(step.batch),
                "ms/step": f"{1e3 * seconds:.1f}",
                "GFLOP/s": f"{flops(step) / seconds / 1e9:.0f}",
                "days": f"{steps * seconds / 86400:.1f}",
                "MiB": f"{_mib(step, 1):,.0f}",
            })  # fmt: skip
        print_table("one device here; the step time is measured, the rest follows", table)

    gpu = Devices(args.tflops * 1e12, args.launch_ms / 1e3, args.bandwidth * 1e9)
    table = []
    for name in args.recipes:
        for count in args.devices:
            table.append({"recipe": name, "GPUs": str(count), **_row(settings[name], gpu, count, args.price)})
    print_table(
        f"GPUs; assumed, not measured: {args.tflops:g} TFLOP/s achieved, {args.launch_ms:g} ms a step at least, "
        f"{args.bandwidth:g} GB/s, a price of {args.price:g} an hour",
        table,
    )


def _row(recipe: dict[str, Any], gpu: Devices, count: int, price: float) -> dict[str, str]:
    step, steps = _step(recipe)
    batch = -(-max(step.batch, count) // count) * count
    steps = round(steps * step.batch / batch)
    step = replace(step, batch=batch)
    memory = forecast(step).memory
    assert memory is not None
    seconds = gpu.step_s(flops(step), memory.parameters, count)
    hours = steps * seconds / 3600
    return {
        "batch": str(batch),
        "steps": f"{steps:,}",
        "ms/step": f"{1e3 * seconds:.1f}",
        "hours": f"{hours:.1f}",
        "GPU hours": f"{hours * count:.1f}",
        "price": f"{hours * count * price:.0f}",
        "MiB each": f"{_mib(step, count):,.0f}",
    }


def _mib(step: Step, count: int) -> float:
    """What one of `count` devices needs for its share of the step."""
    memory = forecast(replace(step, batch=step.batch // count)).memory
    assert memory is not None
    return (memory.peak + (memory.parameters if count > 1 else 0)) / MIB


def _step(recipe: dict[str, Any]) -> tuple[Step, int]:
    """A recipe's step on one device, and how many there are."""
    data, optim, trainer = recipe["data"], recipe["optim"], recipe["trainer"]
    spec = complete(NetworkSpec(recipe["model"]["class_path"], recipe["model"].get("init_args", {})))
    step = Step(spec, data["batch_size"], data["patch_size"], optim.get("loss", Step.loss))
    return step, trainer.get("max_steps") or trainer["max_epochs"] * data["steps_per_epoch"]


if __name__ == "__main__":
    main()
