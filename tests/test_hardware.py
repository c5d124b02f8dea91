"""What the machine is used for: automatic, overridable, and the same results."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from restore import hardware
from restore.data.pairs import Pair
from restore.hardware import Hardware, free_memory, gains_from_bf16
from restore.metrics import PROTOCOLS
from restore.models import EDSR, NORMS, DnCNN, Norm
from restore.training import Optimization, PatchData, fit
from restore.training.module import RestorationModule

CPU = torch.device("cpu")


def test_what_is_said_wins_over_what_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(hardware, "free_memory", lambda _: 1000)
    assert Hardware().resolved(gpu, store_bytes=500, norm="batch").store_on_device
    assert not Hardware().resolved(gpu, store_bytes=501, norm="batch").store_on_device
    assert Hardware(store_on_device=True).resolved(gpu, store_bytes=501, norm="batch").store_on_device
    assert not Hardware().resolved(CPU, store_bytes=1, norm="batch").store_on_device
    chosen = Hardware(channels_last=False, threads=7, keep_pages=False).resolved(CPU, 0, "batch")
    assert (chosen.channels_last, chosen.threads, chosen.keep_pages) == (False, 7, False)
    assert Hardware().resolved(CPU, 0, "batch").channels_last
    assert not Hardware().resolved(CPU, 0, "group").channels_last
    assert Hardware(channels_last=True).resolved(CPU, 0, "group").channels_last


def test_the_choice_is_one_line() -> None:
    chosen = Hardware(channels_last=True, threads=2, store_on_device=False, keep_pages=False)
    assert chosen.describe(CPU, "32-true") == "cpu, 32-true, channels_last, 2 threads, patches memory-mapped"


@pytest.mark.parametrize(("workers", "place"), [(0, "in GPU memory"), (1, "memory-mapped")])
def test_the_line_says_where_the_patches_are_cut(
    workers: int, place: str, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = PatchData(str(image_folder), str(image_folder), patch_size=8, batch_size=1, workers=workers)
    network, optim, asked = DnCNN(depth=2, features=2), Optimization(), Hardware(store_on_device=True)
    trainer = {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False}
    with caplog.at_level("INFO", "restore"):
        summary = fit(network, data, optim, tmp_path / "run", trainer=trainer, hardware=asked)
    assert f"patches {place}" in caplog.text
    assert summary["hardware"]["store_on_device"] == (workers == 0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_no_more_threads_than_cores_that_may_be_used() -> None:
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from restore import hardware as h"
    found = subprocess.run(
        [sys.executable, "-c", f"{program}; print(h.usable_cores())"], capture_output=True, text=True
    )
    assert found.stdout.strip() == "1", found.stderr


@pytest.mark.skipif(not hardware.keeps_pages(), reason="no glibc here")
def test_kept_pages_do_not_fault_again() -> None:
    program = """
import resource, sys, torch
from restore.hardware import keep_pages
if sys.argv[1] == "keep":
    keep_pages()
for _ in range(20):
    torch.zeros(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""

    def faults(keep: str) -> int:
        run = subprocess.run([sys.executable, "-c", program, keep], capture_output=True, text=True, check=True)
        return int(run.stdout)

    once = 2**26 // os.sysconf("SC_PAGE_SIZE")
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge_pages.exists() and "[always]" in huge_pages.read_text():
        pytest.skip("pages are huge here")
    assert faults("default") - faults("keep") > 10 * once


Gradients = Callable[[Norm, Hardware], dict[str, torch.Tensor]]


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> Gradients:
    """Those of a training step in float64, by parameter."""
    monkeypatch.setattr(RestorationModule, "trainer", None)
    monkeypatch.setattr("restore.training.module.logs_this_step", lambda _: False)

    def of(norm: Norm, hardware: Hardware) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = DnCNN(depth=4, features=8, norm=norm).double()
        module = RestorationModule(network, Optimization(), PROTOCOLS["denoise-gray"], hardware)
        clean = torch.rand(2, 1, 12, 10, dtype=torch.float64)
        module.training_step(Pair(clean + 0.1 * torch.randn_like(clean), clean), 0).backward()
        return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}

    return of


def agree(plain: dict[str, torch.Tensor], fast: dict[str, torch.Tensor]) -> None:
    assert plain.keys() == fast.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("norm", NORMS)
def test_channels_last_changes_the_step_by_rounding_only(norm: Norm, gradients: Gradients) -> None:
    agree(gradients(norm, Hardware(channels_last=False)), gradients(norm, Hardware(channels_last=True)))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.parametrize("compiled", [True, "reduce-overhead"])
def test_a_compiled_step_is_the_plain_step(compiled: bool | Literal["reduce-overhead"], gradients: Gradients) -> None:
    # Of CUDA graphs, which `reduce-overhead` records on a GPU, nothing can be tested on a CPU.
    plain = gradients("batch", Hardware(channels_last=False))
    agree(plain, gradients("batch", Hardware(channels_last=False, compile=compiled)))


def test_a_fused_step_is_the_plain_step() -> None:
    def stepped(fused: bool, optim: Optimization) -> torch.Tensor:
        torch.manual_seed(0)
        network = EDSR(features=8, blocks=1).to(memory_format=torch.channels_last)
        optimizer, _ = optim.build(network, steps=3, fused=fused)
        for _ in range(3):
            network(torch.rand(1, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    for optim in (Optimization(), Optimization(optimizer="sgd", weight_decay=1e-4, lr=1e-3)):
        torch.testing.assert_close(stepped(True, optim), stepped(False, optim), rtol=1e-5, atol=1e-6)


def test_precision_follows_the_machine_unless_it_is_given(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def precision_of(name: str, **trainer: object) -> str:
        folder = str(image_folder)
        data = PatchData(folder, folder, patch_size=8, batch_size=1, steps_per_epoch=1)
        settings = {"max_steps": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, **trainer}
        return str(
            fit(DnCNN(depth=2, features=2), data, Optimization(), tmp_path / name, trainer=settings)["precision"]
        )

    for gains, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr("restore.training.run.gains_from_bf16", lambda _, gains=gains: gains)
        assert precision_of(f"auto-{gains}") == expected
    monkeypatch.setattr("restore.training.run.gains_from_bf16", lambda _: True)
    assert precision_of("given", precision="32-true") == "32-true"


def test_the_processor_is_asked_as_the_kernel_describes_it() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        pytest.skip("no /proc here")
    assert gains_from_bf16(CPU) == any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


@pytest.mark.parametrize(("asked", "mode"), [(True, "default"), ("reduce-overhead", "reduce-overhead"), (False, None)])
def test_the_mode_that_is_asked_for_reaches_the_compiler(
    asked: bool | Literal["reduce-overhead"], mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda function, mode: modes.append(mode) or function)
    RestorationModule(DnCNN(depth=2, features=2), Optimization(), PROTOCOLS["denoise-gray"], Hardware(compile=asked))
    assert modes == ([] if mode is None else [mode])


def test_bf16_is_not_chosen_if_onednn_may_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    for limit, gains in (("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True), ("ALL", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert gains_from_bf16(CPU) == gains
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert gains_from_bf16(CPU)


MEMINFO = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n"
UNLIMITED = "9223372036854771712"


def machine(root: Path, **files: str) -> Path:
    """A root folder with these files in `proc` and `sys/fs/cgroup`."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: str, usage: int, files: int) -> dict[str, str]:
    """A control group of version 2."""
    path = f"sys/fs/cgroup/{folder}/memory"
    return {
        f"{path}.max": f"{limit}\n",
        f"{path}.current": f"{usage}\n",
        f"{path}.stat": f"anon 5\ninactive_file {files}\n",
    }


def old_group(folder: str, limit: str, usage: int, files: int) -> dict[str, str]:
    """A control group of version 1."""
    path = f"sys/fs/cgroup/memory/{folder}/memory"
    return {
        f"{path}.limit_in_bytes": f"{limit}\n",
        f"{path}.usage_in_bytes": f"{usage}\n",
        f"{path}.stat": f"inactive_file 1\ntotal_inactive_file {files}\n",
    }


@pytest.mark.parametrize(("files", "free"), [
    ({}, 4096000),
    ({"proc/self/cgroup": "0::/\n"}, 4096000),
    ({"proc/self/cgroup": "0::/job/step\n"} | group("job/step", "3000", 1500, 200), 1700),
    ({"proc/self/cgroup": "0::/job/step\n"} | group("job/step", "max", 0, 0) | group("job", "3000", 2900, 0), 100),
    ({"proc/self/cgroup": "0::/job\n"} | group("job", "9999999999", 0, 0), 4096000),
    ({"proc/self/cgroup": "0::/job\n"} | group("job", "1000", 1200, 0), 0),
    ({"proc/self/cgroup": "9:cpu:/\n8:memory:/job\n0::/\n"} | old_group("job", "3000", 1000, 500), 2500),
    ({"proc/self/cgroup": "8:memory:/docker/3f\n"} | old_group("", "2000", 1000, 0), 1000),
    ({"proc/self/cgroup": "8:memory:/job\n"} | old_group("job", UNLIMITED, 1000, 0), 4096000),
])  # fmt: skip
def test_free_is_what_linux_has_to_give_within_every_limit(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert free_memory(CPU, machine(tmp_path, **files)) == free


def test_elsewhere_it_cannot_be_told(tmp_path: Path) -> None:
    assert free_memory(CPU, tmp_path) is None
