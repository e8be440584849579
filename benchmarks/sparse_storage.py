"""Bytes of pruned weights: `compress pack` beside general compressors, an arithmetic coder, and the entropy.

Official SPAN weights, their smallest set to zero layer by layer, as .safetensors.  The arithmetic coder is that of
constriction (`pip install constriction`; left out where it is absent): a bitmap with each layer's density, or gaps, and
the planes of the values with their histograms, which are not even counted.  zstd is the command, where there is one.
Writes results/sparse_storage.json.
Usage: python benchmarks/sparse_storage.py
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import record

from compress import zoo
from compress.methods._sparsity import prunable, selected
from compress.weights import write
from export.packing.container import pack
from export.packing.regions import Region, regions_of
from export.packing.streams import bytes_of_gaps, planes

WEIGHTS = {
    "SPAN x4, 48 channels, float16 values": "span/spanx4_ch48_deploy_fp16rounded.pth",
    "SPAN x4, 28 channels": "ntire2025/team46_span.pth",
}
SPARSITIES = (0.9, 0.95, 0.99)


def general(data: bytes) -> dict[str, int]:
    """Compressors that know nothing of weights, on the whole file."""
    found = {
        "zlib": len(zlib.compress(data, 9)),
        "lzma": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    if shutil.which("zstd"):
        found["zstd -19"] = len(subprocess.run(["zstd", "-19", "-c"], input=data, capture_output=True).stdout)
    return found


def arithmetic(data: bytes, regions: list[Region]) -> Mapping[str, int]:
    """Bytes of places and values by constriction's range coder."""
    try:
        import constriction
    except ImportError:
        return {}
    models = constriction.stream.model
    bits = constriction.stream.queue.RangeEncoder()
    parts: list[list[bytes]] = [[], [], [], [], [], []]  # gaps along rows and along columns, then the planes
    for region in regions:
        words = np.frombuffer(data, "<u4", region.count, region.start)
        there = words != 0
        if 0 < there.mean() < 1:
            bits.encode(there.astype(np.int32), models.Bernoulli(float(there.mean()), perfect=False))
        parts[0].append(bytes_of_gaps(np.flatnonzero(there)))
        parts[1].append(bytes_of_gaps(np.flatnonzero(there.reshape(region.rows, region.columns).T)))
        values = words[there].astype(np.uint32)
        middle = int(np.median((values << np.uint32(1)) >> np.uint32(24))) if len(values) else 0
        for number, plane in enumerate(planes(values, 4, middle), start=2):
            parts[number].append(plane)
    sizes = []
    for stream in (np.frombuffer(b"".join(part), np.uint8) for part in parts):
        counts, coder = np.bincount(stream, minlength=256), constriction.stream.queue.RangeEncoder()
        coder.encode(stream.astype(np.int32), models.Categorical(counts / counts.sum(), perfect=False))
        sizes.append(4 * len(coder.get_compressed()))
    return {"bitmap": 4 * len(bits.get_compressed()), "gaps": min(sizes[:2]), "values": sum(sizes[2:])}


def measured(weights: Path, sparsity: float, scratch: Path) -> dict[str, object]:
    """One row."""
    import torch

    module = zoo.load("span", weights).module
    with torch.no_grad():
        for weight in prunable(module, ()).values():
            weight[selected(weight, sparsity)] = 0.0
    path = scratch / "weights.safetensors"
    write(path, module.state_dict(), {})
    data = path.read_bytes()
    regions = regions_of(path, data)
    _, summary = pack(data, regions)
    return {
        "numbers": summary.numbers,
        "nonzeros": summary.nonzeros,
        "file_bytes": len(data),
        "packed_bytes": summary.packed_bytes,
        "place_bytes": summary.position_bytes,
        "value_bytes": summary.value_bytes,
        "bytes_per_nonzero": round(summary.bytes_per_nonzero, 3),
        "bound_per_nonzero": round(summary.bound_per_nonzero, 3),
        "place_bound": round(summary.position_bound),
        "value_bound": round(summary.value_bound),
        "whole_file": general(data),
        "constriction": arithmetic(data, regions),
    }


def main() -> None:
    data = record.need_shared()
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for title, name in WEIGHTS.items():
            for sparsity in SPARSITIES:
                rows[f"{title}, {sparsity:.0%}"] = measured(data / "weights/sr" / name, sparsity, Path(scratch))
                print(title, sparsity, rows[f"{title}, {sparsity:.0%}"], flush=True)
    record.write("sparse_storage", rows, seed=0)


if __name__ == "__main__":
    main()
