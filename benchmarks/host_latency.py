"""How well the models of `compress targets fit --host` predict whole networks of the zoo, none of them fitted.

Run `compress targets fit --host` before, on a quiet machine; the times of both must be of the same threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from record import write

from compress.methods.reparameterize import merged
from compress.operators import workload
from compress.zoo import fresh
from export import formats, timing
from export.artifact import Card, ExportSpec
from export.errors import ExportError
from export.policy import QuantPolicy
from targets import latency
from targets.judging import score

NETWORKS = ("espcn", "fsrcnn", "abpn", "ecbsr", "span", "rlfn", "rfdn", "imdn", "carn", "srresnet")
SIZE = (96, 96)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path.home() / ".cache" / "edgepress" / "host-latency.json")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    book = latency.read(args.models)
    images = [np.random.default_rng(n).random((*SIZE, 3), np.float32) for n in range(4)]
    table = {}
    for model in book.models:
        rows = {}
        for name in args.networks:
            network = fresh(name)
            module = merged(network.module).eval()
            estimate = model.predict(workload(module, (1, network.channels, *SIZE), name))
            card = Card(name, network.scale, network.channels, None, model.dtype)
            policy = QuantPolicy() if model.dtype == "int8" else None
            spec = ExportSpec(module, card, SIZE, policy, images if policy else ())
            with tempfile.TemporaryDirectory() as folder:
                try:
                    file = formats.write(model.runtime, spec, Path(folder), name).files[0]
                    found = timing.measure([Path(folder) / file], SIZE, network.channels, args.threads)[0]
                except ExportError as error:
                    rows[name] = {"failed": str(error)}
                    continue
            rows[name] = {"measured": found.median_ms, **asdict(estimate)}
            print(model.runtime, model.dtype, name, rows[name], flush=True)
        told = [r for r in rows.values() if r.get("ms")]
        judged = asdict(score([r["ms"] for r in told], [r["measured"] for r in told])) if len(told) > 2 else None
        table[f"{model.runtime} / {model.dtype}"] = {"judged": judged, "networks": rows}
    write("host_latency", {"data": book.data, "threads": args.threads, "formats": table}, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
