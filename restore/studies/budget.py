"""How large and how long the experiments are: the only thing that a budget changes."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from restore.choices import BudgetName
from restore.data.degradation import Bicubic, Degradation, GaussianNoise
from restore.inference.runner import FloatPrecision
from restore.models import NetworkSpec
from restore.studies.experiment import Experiment
from restore.training import Optimization

SIGMA = 25.0
WIDE_PRECISION: FloatPrecision = "bf16"  # it takes half of the time on processors that have it


@dataclass(frozen=True)
class Budget:
    """Sizes and lengths.

    Attributes:
        name: `smoke` proves that all works; `small` takes some hours of two cores, `mid` a day; `full` has the networks
            of the papers and as many steps as a CPU allows; `gpu` has the papers' steps, too.
        seeds: how often each experiment is repeated unless told otherwise.
        depth, features: of DnCNN.
        blocks, sr_features: of EDSR and SRResNet.
        wdsr_features: of WDSR, which has as many blocks.
        wide_features: of the EDSR of residual scaling.
        patch, sr_patch: height and width of the network's input in training.
        batch, sr_batch: patches a step.
        lengths: steps before the decay, ascending: of most experiments, and of those that ask what time changes.
        tuning_lengths: of the search for settings, ascending; none: no search, the first candidate is taken.
        precision: of training and restoring.
        first_seed: of the runs that judge. Those of `small` and `mid` were never used before the criteria were stated.
        images, crop: of test images, see `StudyData`.
    """

    name: BudgetName
    seeds: int
    depth: int
    features: int
    blocks: int
    sr_features: int
    wdsr_features: int
    wide_features: int
    patch: int
    sr_patch: int
    batch: int
    sr_batch: int
    lengths: tuple[int, ...]
    tuning_lengths: tuple[int, ...]
    precision: FloatPrecision
    first_seed: int = 0
    images: int | None = None
    crop: int | None = None

    def denoising(self, **arguments: Any) -> Experiment:
        """DnCNN, gray, sigma 25, Adam: what all experiments in denoising start from."""
        size = {"depth": self.depth, "features": self.features}
        return self._experiment(NetworkSpec("DnCNN", size | arguments), GaussianNoise(SIGMA), "half_squared_error")

    def edsr(self, **arguments: Any) -> Experiment:
        """EDSR x2, L1, Adam: what most experiments in super-resolution start from."""
        return self._super_resolution("EDSR", self.sr_features, arguments)

    def wide(self, **arguments: Any) -> Experiment:
        """A wide EDSR on small batches and patches, for shorter: where residual scaling is said to be needed."""
        base = self.edsr(features=self.wide_features, **arguments)
        length, patch, batch = 2 * base.length // 5, 3 * base.patch_size // 4, max(1, base.batch_size // 4)
        return replace(base, length=length, patch_size=patch, batch_size=batch, precision=WIDE_PRECISION)

    def srresnet(self, **arguments: Any) -> Experiment:
        """SRResNet x2, as large."""
        return self._super_resolution("SRResNet", self.sr_features, arguments)

    def wdsr(self, kind: Literal["WDSRA", "WDSRB"], **arguments: Any) -> Experiment:
        """WDSR-A or WDSR-B x2."""
        return self._super_resolution(kind, self.wdsr_features, arguments)

    def _super_resolution(self, name: str, features: int, arguments: dict[str, Any]) -> Experiment:
        size = {"blocks": self.blocks, "features": features, "scale": 2}
        return self._experiment(NetworkSpec(name, size | arguments), Bicubic(2), "l1")

    def _experiment(self, network: NetworkSpec, degradation: Degradation, loss: str) -> Experiment:
        enlarges = degradation.scale > 1
        return Experiment(
            network=network,
            degradation=degradation,
            optim=Optimization(loss=loss),
            length=self.lengths[0],
            patch_size=self.sr_patch if enlarges else self.patch,
            batch_size=self.sr_batch if enlarges else self.batch,
            precision=self.precision,
        )


BUDGETS: dict[BudgetName, Budget] = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke", seeds=1, depth=4, features=8, blocks=2, sr_features=8, wdsr_features=8, wide_features=16,
            patch=16, sr_patch=12, batch=4, sr_batch=2, lengths=(75, 150), tuning_lengths=(), precision="fp32",
            images=1, crop=32,
        ),
        Budget(
            "small", seeds=5, depth=10, features=16, blocks=8, sr_features=16, wdsr_features=16, wide_features=64,
            patch=24, sr_patch=16, batch=16, sr_batch=16, lengths=(750, 3000), tuning_lengths=(750,), precision="fp32",
            first_seed=10,
        ),
        Budget(
            "mid", seeds=3, depth=12, features=32, blocks=8, sr_features=32, wdsr_features=24, wide_features=128,
            patch=32, sr_patch=24, batch=16, sr_batch=16, lengths=(750, 3000), tuning_lengths=(375, 750),
            precision="bf16", first_seed=10,
        ),
        Budget(
            "full", seeds=3, depth=17, features=64, blocks=16, sr_features=64, wdsr_features=32, wide_features=256,
            patch=40, sr_patch=48, batch=32, sr_batch=16, lengths=(750, 1500, 3000, 6000, 12_000),
            tuning_lengths=(375, 750, 1500), precision="bf16",
        ),
        Budget(
            "gpu", seeds=3, depth=17, features=64, blocks=16, sr_features=64, wdsr_features=32, wide_features=256,
            patch=40, sr_patch=48, batch=128, sr_batch=16, lengths=(12_000, 67_000),
            tuning_lengths=(1500, 12_000), precision="bf16",
        ),
    )
}  # fmt: skip
