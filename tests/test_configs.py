"""Every shipped recipe builds, trains, and says what its paper says."""

from pathlib import Path

import numpy as np
import pytest

from restore import recipes, train
from restore.errors import UserError
from restore.images.io import write_image
from restore.models import RestorationNetwork

CONFIGS = sorted(recipes.CONFIGS.glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees in the layouts of the data sets that the recipes name, with small random images."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    folders = "DIV2K/DIV2K_train_HR", "DIV2K/DIV2K_valid_HR", "Train400", "Set12"
    for folder in (*folders, *(f"BSDS500/data/images/{part}" for part in ("train", "test", "val"))):
        for name in ("0001", "0002"):
            write_image(root / folder / f"{name}.png", random.integers(0, 256, (192, 193, 3), np.uint8))
    return root


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_a_shrunk_version_of_every_recipe_trains_two_steps(config: Path, data_root: Path, tmp_path: Path) -> None:
    parser = train.build_parser()
    settings = parser.parse_args(["--config", str(config)])
    smaller = ["--model.depth", "3"] if "depth" in settings.model.init_args else ["--model.blocks", "1"]
    if isinstance(settings.data.val, int):
        smaller += ["--data.val", "1"]
    args = (
        f"--config {config} --data.root {data_root} --output {tmp_path}/run --model.features 4 --data.batch_size 2 "
        "--data.steps_per_epoch 2 --trainer.max_steps 2 --trainer.limit_val_batches 1 --trainer.accelerator cpu "
        "--trainer.enable_progress_bar false"
    )
    assert train.main([*args.split(), *smaller]) == 0
    assert (tmp_path / "run/weights.safetensors").is_file()


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_every_recipe_takes_another_norm(config: Path) -> None:
    for norm in ("none", "batch"):
        settings = train.build_parser().parse_args(["--config", str(config), "--model.norm", norm])
        assert settings.model.init_args.norm == norm


def network(name: str) -> RestorationNetwork:
    parser = train.build_parser()
    made: RestorationNetwork = parser.instantiate(
        parser.parse_args(["--config", str(CONFIGS[0].parent / f"{name}.yaml")])
    ).model
    return made


@pytest.mark.parametrize(("name", "millions"), [
    ("dncnn_gray_25", 0.556), ("dncnn_blind", 0.667), ("cdncnn_blind", 0.669), ("dncnn3", 0.667),
    ("fdncnn_gray", 0.6665), ("ffdnet_gray", 0.4853),
    ("edsr_baseline_x2", 1.370), ("edsr_baseline_x3", 1.554), ("edsr_baseline_x4", 1.518),
    ("edsr_x2", 40.730), ("edsr_x3", 43.680), ("edsr_x4", 43.090), ("srresnet_x4", 1.547),
    ("mdsr_baseline", 3.227), ("mdsr", 7.954), ("wdsr_a_x2", 1.190), ("wdsr_b_x2", 0.304),
])  # fmt: skip
def test_recipes_build_the_published_networks(name: str, millions: float) -> None:
    made = network(name)
    assert sum(parameter.numel() for parameter in made.parameters()) / 1e6 == pytest.approx(millions, abs=6e-4)
    assert getattr(made, "res_scale", 1) == (0.1 if name in ("edsr_x2", "edsr_x3", "edsr_x4") else 1)
    assert made.norm == ("weight" if "wdsr" in name else "none" if "dsr" in name or name.startswith("f") else "batch")


def test_recipes_carry_the_published_settings() -> None:
    parser = train.build_parser()
    dncnn, blind, mixture, edsr, wdsr = (
        parser.parse_args(["--config", str(CONFIGS[0].parent / f"{name}.yaml")])
        for name in ("dncnn_gray_25", "dncnn_blind", "dncnn3", "edsr_x4", "wdsr_b_x2")
    )
    assert (dncnn.data.patch_size, dncnn.data.batch_size, dncnn.data.steps_per_epoch) == (40, 128, 1600)
    assert (list(dncnn.data.sizes), dncnn.optim.loss) == ([1.0, 0.9, 0.8, 0.7], "half_squared_error")
    assert (dncnn.optim.optimizer, dncnn.optim.lr, dncnn.trainer.max_epochs) == ("adam", 1e-3, 50)
    assert (blind.data.patch_size, blind.data.steps_per_epoch) == (50, 3000)
    assert tuple(blind.data.degradation.init_args.sigma) == (0, 55)
    assert (mixture.data.patch_size, mixture.data.steps_per_epoch, mixture.data.batch_size) == (50, 8000, 128)
    of_mixture = mixture.data.degradation.init_args
    assert [tuple(of_mixture[name]) for name in ("sigma", "factors", "quality")] == [(0, 55), (2, 3, 4), (5, 99)]
    assert (edsr.data.patch_size, edsr.data.batch_size, edsr.optim.loss) == (48, 16, "l1")
    assert (edsr.optim.lr, tuple(edsr.optim.betas), edsr.optim.eps) == (1e-4, (0.9, 0.999), 1e-8)
    assert (edsr.optim.step_size, edsr.optim.gamma, edsr.trainer.max_steps) == (200_000, 0.5, 300_000)
    assert (wdsr.data.patch_size, wdsr.data.batch_size, wdsr.optim.loss) == (48, 16, "l1")
    assert (wdsr.optim.lr, wdsr.optim.step_size, wdsr.optim.gamma) == (1e-3, 200_000, 0.5)


def test_a_rate_written_as_1e_minus_4_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("optim:\n  lr: 1e-4\n  betas: [0.9, 0.99]\n")
    settings = train.build_parser().parse_args(["--config", str(CONFIGS[0]), "--config", str(tmp_path / "mine.yaml")])
    assert settings.optim.lr == 1e-4


def test_a_misspelled_key_in_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("optim:\n  learning_rate: 0.1\n")
    with pytest.raises(UserError, match="learning_rate"):
        train.main(["--config", str(CONFIGS[0]), "--config", str(tmp_path / "mine.yaml")])


@pytest.mark.parametrize("value", ["none", "true", "0", "[1]", "2.5"])
def test_a_wrong_interval_in_a_file_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"checkpoint_every: {value}\n")
    with pytest.raises(UserError, match="checkpoint_every"):
        train.main(["--config", str(CONFIGS[0]), "--config", str(tmp_path / "mine.yaml")])
