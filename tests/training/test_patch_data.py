"""What a run is trained and validated on is what was asked for."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from restore.benchmark import default_protocol
from restore.data.degradation import Bicubic, Degradation, GaussianNoise, Paired
from restore.data.pairs import Pair, load_pair
from restore.data.random import Draws
from restore.errors import UserError
from restore.images.io import read_image, write_image
from restore.images.tensors import to_tensor
from restore.models import EDSR, MDSR, DnCNN
from restore.training import Optimization, PatchData, fit
from restore.training.lightning_internals import known_warnings
from restore.training.module import RestorationModule


@dataclass(frozen=True)
class NoisyBicubic(Degradation):
    """Bicubic downsampling and noise."""

    scale: int = 2
    sigma: float = 50.0

    label = "noisy bicubic"

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return GaussianNoise(self.sigma)(Bicubic(self.scale)(clean, draws), draws)


@dataclass(frozen=True)
class Wrong(Degradation):
    """Says that it halves images, and does not."""

    scale: int = 2
    label = "wrong"

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return clean


@dataclass(frozen=True)
class Black(Bicubic):
    """Nothing is left of an image; says, as earlier versions asked for, that it draws nothing at random."""

    precomputable = True
    label = "black"

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return torch.zeros_like(super().__call__(clean, draws))


class Recorder(Callback):
    """Keeps the first batch and ends the run."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Pair, batch_idx: int) -> int:
        self.pair = batch
        return -1


def first_pair(network: EDSR | DnCNN, data: PatchData) -> Pair:
    """The first batch that a training step is given."""
    prepared, recorder = data.prepare(network), Recorder()
    protocol = default_protocol(prepared.val.images, prepared.degradation, network.channels)
    with known_warnings():
        trainer = Trainer(
            accelerator="cpu", max_steps=1, callbacks=[recorder], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(RestorationModule(network, Optimization(loss="l1"), protocol), datamodule=prepared)
    return recorder.pair


def settings(folder: Path, **more: object) -> PatchData:
    return PatchData(str(folder), str(folder), patch_size=8, batch_size=32, steps_per_epoch=1, **more)


def test_a_degradation_that_enlarging_networks_undo_is_the_same_in_training_and_in_validation(
    image_folder: Path,
) -> None:
    network = EDSR(features=4, blocks=1)
    pair = first_pair(network, settings(image_folder, degradation=NoisyBicubic()))
    assert pair.degraded.shape == (32, 3, 8, 8)
    assert pair.clean.shape == (32, 3, 16, 16)
    noise = pair.degraded - Bicubic(2)(pair.clean, Draws(torch.Generator()))
    assert (noise * 255).std().item() == pytest.approx(50, rel=0.05)
    validation = settings(image_folder, degradation=NoisyBicubic()).prepare(network).val.images
    whole = load_pair(validation, 0, NoisyBicubic(), 3)
    clean = Bicubic(2)(whole.clean / 255, Draws(torch.Generator()))
    assert ((whole.degraded - clean) * 255).std().item() == pytest.approx(50, rel=0.1)


def test_published_low_resolution_images_are_not_taken_for_another_degradation(tmp_path: Path) -> None:
    write_image(tmp_path / "s/HR/a.png", np.full((32, 32, 3), 200, np.uint8))
    write_image(tmp_path / "s/LR_bicubic/X2/ax2.png", np.zeros((16, 16, 3), np.uint8))
    network = EDSR(features=4, blocks=1)
    assert first_pair(network, settings(tmp_path / "s")).degraded.max() == 0
    pair = first_pair(network, settings(tmp_path / "s", degradation=NoisyBicubic(sigma=0.0)))
    assert pair.degraded.min().item() == pytest.approx(200 / 255)


@pytest.mark.parametrize("transforms", [None, [{"class_path": "albumentations.HorizontalFlip"}]])
def test_a_subclass_of_bicubic_is_applied_to_each_patch_and_to_validation_images(
    transforms: list[dict] | None, tmp_path: Path
) -> None:
    write_image(tmp_path / "s/HR/a.png", np.full((32, 32, 3), 200, np.uint8))
    write_image(tmp_path / "s/LR_bicubic/X2/ax2.png", np.full((16, 16, 3), 200, np.uint8))
    data, network = settings(tmp_path / "s", degradation=Black(), transforms=transforms), EDSR(features=4, blocks=1)
    pair = first_pair(network, data)
    assert pair.degraded.shape == (32, 3, 8, 8)
    assert (pair.degraded.max(), pair.clean.min() * 255) == (0, 200)
    assert load_pair(data.prepare(network).val.images, 0, Black(), 3).degraded.max() == 0


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_number_holds_training_images_out_for_validation(count: int, paired: bool, tmp_path: Path) -> None:
    for place in range(10):
        for folder in ("clean", "noisy"):
            write_image(tmp_path / folder / f"{place}.png", np.full((16, 16, 1), 20 * place, np.uint8))
    pairs = {"train_degraded": tmp_path / "noisy"} if paired else {}
    chosen = PatchData(str(tmp_path / "clean"), count, patch_size=8, batch_size=4, **pairs)
    data = chosen.prepare(DnCNN(depth=2, features=4))
    assert len(data.val.images.clean) == count
    assert sorted([*data.train.images.clean, *data.val.images.clean]) == sorted((tmp_path / "clean").iterdir())
    assert data.val.images.name == f"clean, {count} held out"
    for images in (data.train.images, data.val.images):
        if paired:
            assert [path.name for path in images.degraded[1]] == [path.name for path in images.clean]
    batches = " ".join(data.describe(step) for step in range(40))
    assert [image.name for image in data.train.images.clean if image.name not in batches] == []
    assert [image.name for image in data.val.images.clean if image.name in batches] == []


def test_what_cannot_be_held_out_is_refused(image_folder: Path) -> None:
    images = len(list(image_folder.iterdir()))
    for count in (0, images):
        with pytest.raises(UserError, match=f"{count} of its {images} images cannot be held out"):
            PatchData(str(image_folder), count).prepare(DnCNN(depth=2, features=4))
    with pytest.raises(UserError, match=r"val_degraded belongs to a folder, but data\.val is 2 training images"):
        PatchData(str(image_folder), 2, train_degraded=image_folder, val_degraded=image_folder)


def test_a_degradation_of_another_size_than_it_says_is_refused(image_folder: Path) -> None:
    with pytest.raises(UserError, match=r"wrong\): made .* which is not 2 times smaller"):
        first_pair(EDSR(features=4, blocks=1), settings(image_folder, degradation=Wrong()))


def test_a_network_of_several_scales_takes_bicubic_only(image_folder: Path) -> None:
    network = MDSR(features=4, blocks=1, scale=2)
    for degradation in (NoisyBicubic(), Black()):
        with pytest.raises(UserError, match=r"(noisy bicubic|black)\) has one scale, but .* is trained at 2, 3, 4"):
            settings(image_folder, degradation=degradation).prepare(network)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Clean images, and as degraded ones their negatives: of the same size, and half as large."""
    random = np.random.default_rng(0)
    for name in ("a", "deep/b"):
        image = random.integers(0, 256, (24, 30, 3), np.uint8)
        write_image(tmp_path / f"clean/{name}.png", image)
        write_image(tmp_path / f"negative/{name}.bmp", 255 - image)
        write_image(tmp_path / f"half/{name}x2.png", 255 - image[::2, ::2])
    return tmp_path


def test_own_pairs_are_trained_on_together_through_all_flips(pairs: Path) -> None:
    data = settings(pairs / "clean", train_degraded=pairs / "negative", val_degraded=pairs / "negative")
    pair = first_pair(DnCNN(channels=3, depth=3, features=4), data)
    torch.testing.assert_close(pair.degraded, 1 - pair.clean)
    halves = settings(pairs / "clean", train_degraded=pairs / "half", val_degraded=pairs / "half")
    pair = first_pair(EDSR(features=4, blocks=1), halves)
    subsampled = [pair.clean[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    for number, degraded in enumerate(pair.degraded):
        assert any(torch.allclose(degraded, 1 - part[number]) for part in subsampled)


def test_a_run_on_own_pairs_is_validated_on_them_and_says_so(pairs: Path, tmp_path: Path) -> None:
    data = settings(pairs / "clean", train_degraded=pairs / "negative", val_degraded=pairs / "negative")
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "max_steps": 1}
    summary = fit(DnCNN(channels=3, depth=3, features=4), data, Optimization(), tmp_path / "run", trainer=quiet)
    baseline = summary["results"][0]
    assert (baseline["degradation"], baseline["set"], baseline["protocol"]) == ("as given", "clean", "denoise-rgb")
    images = [read_image(pairs / f"clean/{name}.png").astype(float) for name in ("a", "deep/b")]
    expected = [10 * np.log10(255**2 / np.mean((255 - 2 * image) ** 2)) for image in images]
    assert baseline["psnr"] == pytest.approx(np.mean(expected))
    assert summary["degradation"] == {"class_path": "Paired", "init_args": {"scale": 1}}


def test_pairs_replace_the_degradation_of_a_recipe_and_that_is_said(
    pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = {"train_degraded": pairs / "negative", "val_degraded": pairs / "negative"}
    with caplog.at_level("INFO", "restore"):
        prepared = settings(pairs / "clean", degradation=GaussianNoise(15), **folders).prepare(DnCNN(channels=3))
    assert prepared.degradation.label == "as given"
    assert "Training on pairs of images, not on data.degradation (sigma 15)" in caplog.text


def test_gray_degraded_images_of_color_ones_are_validated_in_the_networks_channels(pairs: Path) -> None:
    for path in (pairs / "half").rglob("*.png"):
        write_image(path, read_image(path)[:, :, :1])
    data = settings(pairs / "clean", train_degraded=pairs / "half", val_degraded=pairs / "half")
    found = data.prepare(EDSR(features=4, blocks=1))
    pair = load_pair(found.val.images, 0, found.degradation, 3)
    assert pair.degraded.shape[1] == pair.clean.shape[1] == 3


def test_the_limit_of_validation_images_holds_over_all_processes(image_folder: Path) -> None:
    data = settings(image_folder).prepare(DnCNN(channels=3))
    for ranks in (1, 2):
        seen = []
        for rank in range(ranks):
            limited: Any = SimpleNamespace(world_size=ranks, global_rank=rank, limit_val_batches=2)
            data.trainer = limited
            seen += [pair.name for pair, counted in data.val_dataloader() if counted]
        assert sorted(seen) == sorted(data.val.images.first(2).names)


def test_images_smaller_than_a_patch_are_told(image_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(image_folder / "tiny.png", np.zeros((4, 64, 3), np.uint8))
    settings(image_folder).prepare(DnCNN(channels=3))
    assert "1 of " in caplog.text
    assert "are smaller than a patch of " in caplog.text


def test_a_pair_of_other_sizes_is_named_before_training(pairs: Path) -> None:
    write_image(pairs / "negative/deep/b.bmp", np.zeros((20, 30, 3), np.uint8))
    complaint = r"deep/b\.png: is 30x24, but its degraded image of scale 1 is 30x20"
    for train, val in (("negative", "negative"),):
        data = settings(pairs / "clean", train_degraded=pairs / train, val_degraded=pairs / val)
        with pytest.raises(UserError, match=complaint):
            data.prepare(DnCNN(channels=3))
    only_val = PatchData(
        str(pairs / "clean"), str(pairs / "clean"), images=1, train_degraded=pairs / "negative",
        val_degraded=pairs / "negative", patch_size=8,
    )  # fmt: skip
    with pytest.raises(UserError, match=complaint):
        only_val.prepare(DnCNN(channels=3))


@pytest.mark.parametrize(("more", "complaint"), [
    ({"train_degraded": Path("x")}, "data.val_degraded is missing"),
    ({"val_degraded": Path("x")}, "data.train_degraded is missing"),
    ({"degradation": Paired(2)}, "Paired needs data.train_degraded"),
    ({"train_degraded": Path("x"), "val_degraded": Path("x"), "sizes": (1.0, 0.5)}, "data.sizes cannot be combined"),
])  # fmt: skip
def test_settings_that_contradict_pairs_are_refused(more: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        PatchData(**more)


def test_validation_images_are_read_as_stored(image_folder: Path) -> None:
    path = sorted(image_folder.iterdir())[0]
    data = settings(image_folder).prepare(DnCNN(channels=3))
    assert torch.equal(load_pair(data.val.images, 0, GaussianNoise(0), 3).clean / 255, to_tensor(read_image(path)))
