"""stub until the helper writes it"""

from pathlib import Path


def calibration_images() -> list[Path]:
    return []


def evaluation_images() -> list[Path]:
    return []
