"""What is stored with a study besides its trials: the plan, compared on resuming, and how its predictor was judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError, StudyChangedError
from search.history import Prior
from search.judging import leave_one_out
from search.predictors import Predictor
from search.space import Candidate, Space
from search.storage import guarded, hidden
from search.trial import Plan

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

__all__ = ["annotate", "create", "judge", "read", "recall"]

_CHUNK = 30_000
"""MySQL keeps 65,535 bytes of an attribute."""


def _facts(plan: Plan) -> dict[str, Any]:
    """What has to be the same when a study is resumed, as JSON returns it."""
    facts = {
        "space": plan.space.to_json(),
        "objectives": [[name, direction] for name, direction in plan.objectives.items()],
        "sampler": plan.sampler,
        "seed": plan.seed,
        "metadata": dict(plan.metadata),
        "prior": plan.prior.to_json(plan.space),
    }
    try:
        returned: dict[str, Any] = json.loads(json.dumps(facts))
    except (TypeError, ValueError) as error:
        raise SearchError(f"study {plan.name!r}: metadata and scores have to be JSON: {error}") from error
    return returned


def annotate(study: optuna.Study, key: str, value: Any) -> None:
    """Store a value of any length with a study."""
    text = json.dumps(value)
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    for place, part in enumerate(parts):
        study.set_user_attr(f"search:{key}:{place}", part)
    study.set_user_attr(f"search:{key}", len(parts))


def recall(study: optuna.Study, key: str) -> Any:
    """What :func:`annotate` stored; ``None`` without."""
    stored = study.user_attrs
    if f"search:{key}" not in stored:
        return None
    return json.loads("".join(stored[f"search:{key}:{place}"] for place in range(stored[f"search:{key}"])))


def judge(study: optuna.Study, plan: Plan, predictor: Predictor | None) -> None:
    """Store, once, how the sampler's predictor does on each table when it sees only the others."""
    if predictor is None or len(plan.prior.tables) < 2 or recall(study, "judgement") is not None:
        return
    annotate(study, "judgement", [j.to_json() for j in leave_one_out(predictor, plan.space, plan.prior, plan.signs[0])])


def create(plan: Plan, backend: BaseStorage, storage: str | Path) -> optuna.Study:
    """The study of a plan in an open storage, new or as it was left; ``storage`` is what messages call it.

    Raises:
        StudyChangedError: there is one of that name with another plan.
    """
    import optuna

    facts = _facts(plan)
    with guarded(storage):
        directions = list(plan.objectives.values())
        known = [s.study_name for s in backend.get_all_studies()]
        study = (
            optuna.load_study(study_name=plan.name, storage=backend)
            if plan.name in known
            else optuna.create_study(storage=backend, study_name=plan.name, directions=directions, load_if_exists=True)
        )
        stored = recall(study, "plan")
        if stored is None:
            annotate(study, "plan", facts)
            stored = facts
    if stored != facts:
        raise StudyChangedError(_difference(stored, facts, plan.name, hidden(storage)))
    return study


def read(
    name: str, backend: BaseStorage, storage: str | Path, valid: Callable[[Candidate], bool] | None = None
) -> tuple[optuna.Study, Plan]:
    """A study that exists, and its plan; ``storage`` is what messages call it.

    Raises:
        SearchError: there is none, it was not made by this package, or the predicate is another one.
    """
    import optuna

    known = sorted(s.study_name for s in backend.get_all_studies())
    if name not in known:
        raise SearchError(
            f"no study {name!r} in {hidden(storage)}, which holds {known}: start it with run, or mend the name"
        )
    study = optuna.load_study(study_name=name, storage=backend)
    stored = recall(study, "plan")
    if stored is None:
        raise SearchError(f"study {name!r} in {hidden(storage)} was made by another program: choose another name")
    space = Space.from_json(stored["space"], valid)
    if space.fingerprint() != stored["space"]["valid"]:
        raise StudyChangedError(
            f"study {name!r}: its space has the predicate {stored['space']['valid']}, `valid` is "
            f"{space.fingerprint()}: give the predicate that the study was started with"
        )
    prior = Prior.from_json(stored["prior"], space)
    objectives = dict(stored["objectives"])
    return study, Plan(space, objectives, name, stored["sampler"], stored["seed"], prior, stored["metadata"])


def _difference(stored: dict[str, Any], wanted: dict[str, Any], name: str, storage: str) -> str:
    """The first thing that differs, as it was and as it is wanted."""
    key = next(k for k in wanted if stored.get(k) != wanted[k])
    was: Any = stored.get(key)
    now: Any = wanted[key]
    if key == "space" and was["knobs"] != now["knobs"]:
        before, after = ({k["name"]: k["choices"] for k in side["knobs"]} for side in (was, now))
        changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
        key = f"space, knob {changed[0]!r}" if changed else "space, order of the knobs"
        was, now = (before.get(changed[0]), after.get(changed[0])) if changed else (list(before), list(after))
    elif key == "prior":
        was, now = "other tables", "these"
    return (
        f"study {name!r} in {storage} was made with another {key}: found {was}, wanted {now}; "
        f"give the study another name, or take the old {key.split(',')[0]} to go on with it"
    )
