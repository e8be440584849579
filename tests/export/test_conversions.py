"""A conversion is made once for the same values, and anew for others."""

from pathlib import Path

import torch
from torch import nn

from export.conversions import once


def counted(module: nn.Module, settings: object, path: Path, made: list[int]) -> bytes:
    def work() -> None:
        made.append(1)
        path.write_bytes(f"{len(made)}".encode())

    once(module, settings, path, work)
    return path.read_bytes()


def test_the_same_module_and_settings_are_converted_once(tmp_path: Path) -> None:
    module, made = nn.Conv2d(1, 1, 1), []
    assert counted(module, "a", tmp_path / "x", made) == b"1"
    assert counted(module, "a", tmp_path / "y", made) == b"1"
    assert counted(module, "b", tmp_path / "x", made) == b"2"


def test_changed_values_are_converted_anew(tmp_path: Path) -> None:
    module, made = nn.BatchNorm2d(2), []
    counted(module, "a", tmp_path / "x", made)
    with torch.no_grad():
        module.weight[0] = 3.0
    assert counted(module, "a", tmp_path / "x", made) == b"2"
    module.running_mean[1] = 5.0
    assert counted(module, "a", tmp_path / "x", made) == b"3"


def test_another_structure_of_the_same_values_is_converted_anew(tmp_path: Path) -> None:
    module, made = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), []
    counted(module, "a", tmp_path / "x", made)
    module[1] = nn.Sigmoid()
    assert counted(module, "a", tmp_path / "x", made) == b"2"


def test_another_module_of_the_same_values_is_converted_anew(tmp_path: Path) -> None:
    first, second, made = nn.Identity(), nn.Identity(), []
    counted(first, "a", tmp_path / "x", made)
    assert counted(second, "a", tmp_path / "x", made) == b"2"


def test_a_failed_conversion_is_tried_again(tmp_path: Path) -> None:
    module = nn.Identity()

    def fails() -> None:
        raise RuntimeError("no")

    for _ in range(2):
        try:
            once(module, "a", tmp_path / "x", fails)
        except RuntimeError:
            continue
    assert counted(module, "a", tmp_path / "x", []) == b"1"
