"""A worker in a process of its own: storage, folder, trials, pace in seconds; writes a line for each evaluation."""

import os
import sys
import time
from pathlib import Path

from search.space import Knob, Space
from search.study import Budget, Conduct, Plan, join, run

SPACE = Space((Knob("a", tuple(range(6)), ordinal=True), Knob("b", ("x", "y"))))


def main() -> None:
    """Run, or with ``join`` as the last word join."""
    storage, folder, trials, pace, sampler = (
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
        sys.argv[5],
    )

    def evaluate(candidate):
        line = f"{os.getpid()} {candidate['a']} {candidate['b']}\n"
        with (folder / "started.txt").open("a") as file:
            file.write(line)
        time.sleep(pace)
        with (folder / "ended.txt").open("a") as file:
            file.write(line)
        return {"score": candidate["a"] + (candidate["b"] == "y")}

    if sys.argv[-1] == "join":
        join("workers", evaluate, Budget(trials=trials), folder / "own", storage)
    else:
        conduct = Conduct(beat_seconds=0.2, stale_seconds=2.0, patience_seconds=5.0)
        run(
            Plan(SPACE, name="workers", sampler=sampler),
            evaluate,
            Budget(trials=trials),
            folder,
            storage,
            None,
            conduct,
        )


if __name__ == "__main__":
    main()
