"""Batches, augmentation and test images."""

from functools import partial
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from jsonargparse._common import parsing_settings
from torch import Tensor

from restore.data.augmentation import augment, make_transforms
from restore.data.catalog import ImageSet, find_images
from restore.data.degradation import Bicubic, DnCNN3Mixture, GaussianNoise, Jpeg, PoissonGaussian, RealNoise
from restore.data.pairs import PatchBatch, PatchSampler, ScaleSampler, load_pair, make_pair
from restore.data.random import seeded
from restore.data.store import StoreSpec, open_store
from restore.errors import UserError
from restore.images.io import read_image, write_image
from restore.images.resize import imresize


def sampler(folder: Path, cache: Path, scale: int = 1, seed: int = 0, patch_size: int = 8) -> PatchSampler:
    store = open_store(find_images(str(folder), "train", Path()), StoreSpec(3, scale), cache)
    return PatchSampler(store, patch_size, batch_size=6, seed=seed)


def test_a_batch_is_a_function_of_seed_and_step_alone(image_folder: Path, tmp_path: Path) -> None:
    make = partial(sampler, image_folder, tmp_path / "cache")
    first = make().batch(3)
    assert torch.equal(first.clean, make().batch(3).clean)
    others = make().batch(4), make(seed=1).batch(3)
    assert not any(torch.equal(first.clean, other.clean) for other in others)


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_shares_make_up_the_batch_of_one_process_whatever_their_number(
    ranks: int, image_folder: Path, tmp_path: Path
) -> None:
    store = open_store(find_images(str(image_folder), "train", Path()), StoreSpec(3), tmp_path / "cache")
    transforms = [albumentations.RandomBrightnessContrast(p=0.5)]
    draw = PatchSampler(store, patch_size=16, batch_size=6, seed=0, augment=partial(augment, transforms))
    for degradation in (GaussianNoise((0, 55)), PoissonGaussian(), Jpeg((5, 99)), DnCNN3Mixture(), RealNoise()):
        for step in range(4):
            whole = make_pair(draw.batch(step), degradation, seeded(step))
            shares = [
                make_pair(draw.batch(step, rank, ranks), degradation, seeded(step).share(6, rank, ranks))
                for rank in range(ranks)
            ]
            torch.testing.assert_close(torch.cat([share.clean for share in shares]), whole.clean, rtol=0, atol=0)
            torch.testing.assert_close(torch.cat([share.degraded for share in shares]), whole.degraded)


def test_a_batch_has_one_scale_the_same_on_all_ranks_and_each_in_turn(image_folder: Path, tmp_path: Path) -> None:
    def make(seed: int = 0) -> ScaleSampler:
        return ScaleSampler([sampler(image_folder, tmp_path / "cache", scale, seed) for scale in (2, 3)], seed)

    def scales(draw: ScaleSampler, rank: int = 0, ranks: int = 1) -> list[int]:
        batches = [draw.batch(step, rank, ranks) for step in range(40)]
        assert all(batch.degraded.shape == (6 // ranks, 3, 8, 8) for batch in batches)
        return [batch.clean.shape[-1] // 8 for batch in batches]

    drawn = scales(make())
    assert 10 <= drawn.count(2) <= 30
    assert set(drawn) == {2, 3}
    assert drawn == scales(make(), rank=1, ranks=2)
    assert drawn != scales(make(seed=1))
    assert torch.equal(make().batch(7).clean, make().batch(7).clean)


def test_batches_reach_every_image_and_every_place(tmp_path: Path) -> None:
    for number in range(2):
        columns = np.tile(np.arange(11, dtype=np.uint8) + 100 * number, (9, 1))[:, :, None]
        write_image(tmp_path / "images" / f"{number}.png", columns)
    store = open_store(find_images(str(tmp_path / "images"), "train", Path()), StoreSpec(1), tmp_path / "cache")
    draw = PatchSampler(store, patch_size=8, batch_size=64, seed=0)
    corners = {int(patch[0, 0, 0]) for step in range(4) for patch in draw.batch(step).clean}
    assert corners == {0, 1, 2, 3, 100, 101, 102, 103}


def test_images_smaller_than_a_patch_are_passed_over_and_none_left_is_an_error(
    image_folder: Path, tmp_path: Path
) -> None:
    draw = sampler(image_folder, tmp_path / "cache", patch_size=30)
    assert draw.batch(0).clean.shape == (6, 3, 30, 30)
    with pytest.raises(UserError, match="no image holds a patch of 34x34"):
        sampler(image_folder, tmp_path / "cache", patch_size=34)


def test_flips_and_turns_take_all_eight_forms_and_keep_pairs_aligned() -> None:
    low = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).repeat(200, 1, 1, 1)
    high = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
    pair = make_pair(PatchBatch(high, low, 0), Bicubic(2), seeded(0))
    torch.testing.assert_close(pair.clean[:, :, ::2, ::2], pair.degraded)
    forms = {tuple((image * 255).round().flatten().tolist()) for image in pair.degraded}
    square = low[0, 0].float()
    turns = [square.rot90(k) for k in range(4)]
    assert forms == {tuple(form.flatten().tolist()) for turn in turns for form in (turn, turn.flip(0))}


def test_degradation_is_computed_from_the_turned_patch_where_none_is_stored() -> None:
    clean = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    pair = make_pair(PatchBatch(clean, None, 0), GaussianNoise(0), seeded(0))
    torch.testing.assert_close(pair.degraded, pair.clean)
    for before, after in zip(clean, pair.clean, strict=True):
        assert sorted(before.flatten().tolist()) == sorted((after * 255).round().int().flatten().tolist())


def test_albumentations_transforms_change_patches_the_same_way_each_time(image_folder: Path, tmp_path: Path) -> None:
    store = open_store(find_images(str(image_folder), "train", Path()), StoreSpec(3, 2), tmp_path / "cache")
    transforms = [albumentations.RandomBrightnessContrast(p=1.0), albumentations.HueSaturationValue(p=0.5)]
    plain, augmented, again = (
        PatchSampler(store, 6, 4, 0, way) for way in (None, partial(augment, transforms), partial(augment, transforms))
    )
    batch = augmented.batch(2)
    assert torch.equal(batch.clean, again.batch(2).clean)
    assert not torch.equal(batch.clean, plain.batch(2).clean)
    low = [imresize(patch.permute(1, 2, 0).numpy(), 0.5) for patch in batch.clean]
    np.testing.assert_array_equal(batch.degraded.permute(0, 2, 3, 1), np.stack(low))


def test_a_transform_that_changes_the_size_is_refused() -> None:
    patches = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match="only transforms that keep size and type"):
        augment([albumentations.Resize(4, 4)], patches, seeds=[0, 1])


def test_what_transforms_may_import_is_allowed_to_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = parsing_settings.copy()
    monkeypatch.setenv("RESTORE_EXTENSIONS", "collections")
    (made,) = make_transforms([{"class_path": "albumentations.RandomGamma"}])
    assert isinstance(made, albumentations.RandomGamma)
    with pytest.raises(ValueError, match=r"os\.abort"):
        make_transforms([{"class_path": "albumentations.Lambda", "init_args": {"image": "os.abort"}}])
    assert parsing_settings == before


def noise_of(images: ImageSet, index: int) -> Tensor:
    pair = load_pair(images, index, GaussianNoise(25), channels=1)
    return pair.degraded - pair.clean / 255


def test_test_noise_follows_from_the_name_of_the_image_alone(tmp_path: Path) -> None:
    for name in ("a", "b", "alone/b"):
        write_image(tmp_path / f"{name}.png", np.full((20, 20, 1), 100, np.uint8))
    together = ImageSet("x", (tmp_path / "a.png", tmp_path / "b.png"), {})
    alone = ImageSet("y", (tmp_path / "alone/b.png",), {})
    torch.testing.assert_close(noise_of(together, 1), noise_of(alone, 0))
    assert not torch.equal(noise_of(together, 0), noise_of(together, 1))


def test_super_resolution_keeps_gray_gray_and_denoising_converts(tmp_path: Path) -> None:
    write_image(tmp_path / "gray.png", np.full((20, 20, 1), 100, np.uint8))
    images = find_images(str(tmp_path), "test", Path())
    assert load_pair(images, 0, Bicubic(2), channels=3).clean.shape[1] == 1
    assert load_pair(images, 0, GaussianNoise(25), channels=3).clean.shape[1] == 3


def test_a_test_image_is_paired_with_its_published_low_resolution_image(reference_data: Path) -> None:
    images = find_images("Set5", "test", reference_data)
    pair = load_pair(images, 4, Bicubic(4), channels=3)
    published = read_image(reference_data / "Set5/LR_bicubic/X4/womanx4.png")
    np.testing.assert_array_equal((pair.degraded[0] * 255).round().permute(1, 2, 0), published)
    assert pair.clean.shape[2:] == tuple(4 * size for size in published.shape[:2])
