"""The photographs that ship with the package; CC0 or public domain, see photographs/SOURCES.md."""

from pathlib import Path

from compress.data.images import list_images

__all__ = ["calibration_images", "evaluation_images"]

_FOLDER = Path(__file__).parent / "photographs"


def calibration_images() -> list[Path]:
    """Pictures for the ranges of a quantizer; none of them is in the evaluation set."""
    return list_images(_FOLDER / "calibration")


def evaluation_images() -> list[Path]:
    """Pictures that a run is scored on where the user gives none."""
    return list_images(_FOLDER / "evaluation")
