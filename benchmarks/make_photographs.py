"""Make the built-in photographs from an installed scikit-image (0.26), the same bytes each time.

pip install scikit-image && python benchmarks/make_photographs.py --out compress/data/photographs
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from PIL import Image

# name: (file, folder, shrink, side of the central crop or None)
PICTURES: dict[str, tuple[str, str, int, int | None]] = {
    "astronaut": ("astronaut.png", "evaluation", 1, None),
    "chelsea": ("chelsea.png", "evaluation", 1, None),
    "coffee": ("coffee.png", "evaluation", 1, None),
    "brick": ("brick.png", "calibration", 1, 384),
    "camera": ("camera.png", "calibration", 1, None),
    "grass": ("grass.png", "calibration", 1, 384),
    "gravel": ("gravel.png", "calibration", 1, 384),
    "hubble": ("hubble_deep_field.jpg", "calibration", 2, 432),
    "retina": ("retina.jpg", "calibration", 2, 512),
    "rocket": ("rocket.jpg", "calibration", 1, None),
}


def picture(file: str, shrink: int, crop: int | None) -> Image.Image:
    """One picture: shrunk by Lanczos (which takes JPEG's blocks away), then cut out of the centre."""
    with resources.as_file(resources.files("skimage.data") / file) as path, Image.open(path) as opened:
        image = opened.convert("L" if opened.mode == "L" else "RGB")
    if shrink > 1:
        image = image.resize((image.width // shrink, image.height // shrink), Image.Resampling.LANCZOS)
    if crop is not None:
        width, height = min(crop, image.width), min(crop, image.height)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name, (file, folder, shrink, crop) in PICTURES.items():
        path = out / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(file, shrink, crop).save(path, "PNG", optimize=True)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
