"""Keep a finished `compress coverage` run as results/coverage.json, from which tables.py makes docs/coverage.md.

Usage: python benchmarks/coverage_pages.py runs/coverage
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import record


def main() -> None:
    folder = Path(sys.argv[1])
    rows = json.loads((folder / "coverage.json").read_text())
    for row in rows:
        row["cells"] = {name: {k: v for k, v in cell.items() if k != "seconds"} for name, cell in row["cells"].items()}
    record.write("coverage", {"rows": rows}, seed=0)


if __name__ == "__main__":
    main()
