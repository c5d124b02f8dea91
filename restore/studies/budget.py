"""How large and how long the experiments are: the only thing that a budget changes."""

from dataclasses import dataclass, replace
from typing import Literal

from restore.data.degradation import Bicubic, GaussianNoise
from restore.models import NetworkSpec
from restore.studies.experiment import Experiment
from restore.training import Optimization

BudgetName = Literal["smoke", "cpu", "gpu"]


@dataclass(frozen=True)
class Budget:
    """Sizes and lengths.

    Attributes:
        name: `smoke` proves that all works, `cpu` takes about two hours on two cores, `gpu` is the papers' scale.
        seeds: how often each experiment is repeated unless told otherwise.
        depth, features: of DnCNN.
        blocks, sr_features: of EDSR and WDSR.
        wide_features: of the EDSR of residual scaling.
        patch, sr_patch, wide_patch: height and width of the network's input in training.
        batch, wide_batch: patches a step.
        steps, wide_steps: of a run.
        crops, crop: test images, of each of which the centre of this height and width is scored.
        conclusive: whether runs of this length say anything about training.
    """

    name: BudgetName
    seeds: int
    depth: int
    features: int
    blocks: int
    sr_features: int
    wide_features: int
    patch: int
    sr_patch: int
    wide_patch: int
    batch: int
    wide_batch: int
    steps: int
    wide_steps: int
    crops: int
    crop: int
    conclusive: bool = True

    @property
    def denoising(self) -> Experiment:
        """DnCNN, gray, sigma 25, Adam: all experiments in denoising differ from it in what they study alone.

        Of the learning rates that `higher_learning_rates` tries, a good one with and without norm (cpu budget).
        """
        return Experiment(
            network=NetworkSpec("DnCNN", {"depth": self.depth, "features": self.features, "norm": "batch"}),
            degradation=GaussianNoise(25.0),
            optim=Optimization(lr=3e-3, schedule="cosine"),
            steps=self.steps,
            patch_size=self.patch,
            batch_size=self.batch,
        )

    @property
    def super_resolution(self) -> Experiment:
        """EDSR x2, L1, Adam: the same for super-resolution."""
        arguments = {"blocks": self.blocks, "features": self.sr_features, "scale": 2, "norm": "none"}
        return Experiment(
            network=NetworkSpec("EDSR", arguments),
            degradation=Bicubic(2),
            optim=Optimization(loss="l1", lr=1e-3, schedule="cosine"),
            steps=self.steps,
            patch_size=self.sr_patch,
            batch_size=self.batch,
        )

    @property
    def wide(self) -> Experiment:
        """A wide EDSR, whose residuals the paper scales by 0.1."""
        base = replace(
            self.super_resolution,
            steps=self.wide_steps,
            patch_size=self.wide_patch,
            batch_size=self.wide_batch,
        )
        return base.with_network(features=self.wide_features)


BUDGETS: dict[BudgetName, Budget] = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke", seeds=1, depth=4, features=8, blocks=2, sr_features=8, wide_features=16, patch=16, sr_patch=12,
            wide_patch=12, batch=4, wide_batch=2, steps=3, wide_steps=3, crops=2, crop=32, conclusive=False,
        ),
        Budget(
            "cpu", seeds=3, depth=10, features=16, blocks=8, sr_features=16, wide_features=96, patch=24, sr_patch=16,
            wide_patch=12, batch=16, wide_batch=4, steps=1000, wide_steps=300, crops=8, crop=96,
        ),
        Budget(
            "gpu", seeds=3, depth=17, features=64, blocks=16, sr_features=64, wide_features=256, patch=40, sr_patch=48,
            wide_patch=48, batch=128, wide_batch=16, steps=80_000, wide_steps=20_000, crops=68, crop=320,
        ),
    )
}  # fmt: skip
