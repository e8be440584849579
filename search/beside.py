"""What a worker leaves in its own folder: the best so far, and what the storage could not take."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError
from search.ledger import Ledger
from search.space import Candidate
from search.trial import Outcome, Plan, Trial

if TYPE_CHECKING:
    import optuna

__all__ = ["keep", "send_kept", "write_best"]

_UNSENT = "unsent.json"


def write_best(folder: Path, outcome: Outcome) -> None:
    """``best.json``, whole.

    Raises:
        SearchError: the folder cannot be written.
    """
    _write_whole(folder / "best.json", outcome.to_json())


def keep(folder: Path, plan: Plan, trial: Trial) -> None:
    """Write a measured trial down until the storage is back."""
    kept = {"study": plan.name, "candidate": dict(trial.candidate), "values": dict(trial.values)}
    if not trial.failed:
        _write_whole(folder / _UNSENT, {**kept, "seconds": trial.seconds})


def send_kept(folder: Path, plan: Plan, study: optuna.Study, ledger: Ledger) -> None:
    """What the storage could not take the last time, unless it was measured again since."""
    import optuna

    path = folder / _UNSENT
    if not path.is_file():
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["study"] != plan.name:
        return
    candidate = plan.space.check(Candidate(kept["candidate"]))
    ledger.look()
    if candidate not in {t.candidate for t in ledger.trials}:
        trial = optuna.trial.create_trial(
            params=plan.space.params(candidate),
            distributions=plan.space.distributions(),
            values=[kept["values"][name] for name in plan.objectives],
            user_attrs={"measured": kept["values"], "seconds": kept["seconds"]},
        )
        study.add_trial(trial)
    path.unlink()


def _write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SearchError(f"{path} cannot be written: {error}; free the disk or give another folder") from error
