"""Print tables of what other projects' checkpoints and programs give here, for docs/results/goldens.md.

example: python scripts/goldens.py ../shared/golden
"""

import argparse
import tempfile
from pathlib import Path

import torch

from restore.exporters import FORMS, write_program
from restore.foreign_checkpoints import load_any, save_layout
from restore.inference import at_level, restore_tensor, tiled
from restore.models import EDSR, MDSR, DnCNN, RestorationNetwork, SRResNet


def imported(folder: Path) -> None:
    print("| checkpoint | layout | network | largest difference |\n|---|---|---|---|")
    for path in sorted(folder.glob("*.pt")):
        reference = torch.load(path, weights_only=True)
        weights = load_any(path, res_scale=reference["info"].get("res_scale"))
        facts = weights.training["imported"]
        peak = 255 if reference["info"]["range"].startswith("0..255") else 1
        level = reference["sigma"].item() if "sigma" in reference else None
        restored = restore_tensor(at_level(tiled(weights.network), level), reference["input"] / peak)
        found = reference["input"] - restored if facts["returns"] == "noise" else restored
        difference = (found - reference["output"] / peak).abs().max()
        print(f"| `{path.name}` | {facts['layout']} | {describe(weights.network)} | {difference:.1e} |")


def exported() -> None:
    networks = [
        DnCNN(init="he"),  # `released` begins by returning the image nearly as it is
        DnCNN(channels=3, depth=20, init="he"),
        EDSR(),
        EDSR(scale=4, norm="batch"),
        MDSR(scale=3),
        SRResNet(),
        EDSR(norm="group"),
    ]
    print(f"\n| network | {' | '.join(FORMS)} |\n|---|{'---|' * len(FORMS)}")
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            differences = [
                write_program(network, name, Path(folder) / f"w{form.suffixes[-1]}") for name, form in FORMS.items()
            ]
            cells = " | ".join(f"{difference:.1e}" for difference in differences)
            print(f"| {describe(network)} | {cells} |")


def opened_by_spandrel() -> None:
    import spandrel

    print("\n| network | as spandrel reads it | largest difference |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for network in (DnCNN(init="he"), DnCNN(channels=3, depth=20, norm="weight", init="he")):
            path = Path(folder) / "w.pth"
            save_layout(path, network, "kair")
            descriptor = spandrel.ModelLoader("cpu").load_from_file(path)
            degraded = torch.rand(1, network.channels, 64, 48)
            difference = (descriptor(degraded) - network.eval()(degraded).clamp(0, 1)).abs().max()
            print(f"| {describe(network)} | {descriptor.architecture.id} {descriptor.tags} | {difference:.1e} |")


def describe(network: RestorationNetwork) -> str:
    words = ["depth", "blocks", "features", "scale", "res_scale", "norm", "bias", "rgb_range"]
    words += ["bn_eps"] if network.norm == "batch" else []
    arguments = network.spec.arguments
    return ", ".join([type(network).__name__, *(f"{word} {arguments[word]}" for word in words if word in arguments)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, help="of files of torch.save with state_dict, input, output, info and, if needed, sigma"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    imported(args.folder)
    exported()
    opened_by_spandrel()
