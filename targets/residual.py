"""What the roofline gets wrong, learned by boosted trees over all devices; needs xgboost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from targets.errors import TargetError
from targets.roofline import GROUPS, Columns, Roofline, operator_ms, predict_ms

__all__ = ["features", "learn"]

Array = NDArray[np.float64]

_SHRUNK = 0.6  # of a prediction is applied: the networks are few
_CLIPPED = 1.0  # a residual beyond, e.g. a network that ran on the CPU, teaches nothing of the others


def features(line: Roofline, ops: Columns, dtype: str) -> list[float]:
    """Of one network under one roofline: where its time goes, its size and intensity, its channels."""
    work, memory = operator_ms(line, ops, dtype)
    times = np.maximum(work, memory)
    total = float(predict_ms(line, ops, dtype)[0])
    macs, moved, weights = (float(v.sum()) + 1 for v in (ops.macs, ops.moved, ops.weights))
    share = ops.macs / macs
    return [
        np.log(total),
        line.fixed_us / 1e3 / total,
        line.launch_us * len(times) / 1e3 / total,
        float(times[memory > work].sum()) / total,
        *np.log([macs, moved, weights, len(times), macs / moved, macs / weights]),
        *(float(times[ops.group == g].sum()) / total for g in range(len(GROUPS))),
        float((share * np.log(ops.into)).sum()),
        float((share * np.log(ops.out)).sum()),
        float(np.log(ops.moved.max() + 1)),
        float(np.log(line.dense_gmacs)),
        float(np.log(line.fixed_us)),
        float(dtype in ("float", "float16", "float32")),
        float(dtype == "w8a16"),
    ]


def learn(rows: Array, residuals: Array, networks: Sequence[str]) -> Callable[[Array], Array]:
    """Fit log(measured / roofline); every network weighs the same, on however many devices it was measured.

    Raises:
        TargetError: xgboost is not installed.
    """
    try:
        import xgboost
    except ImportError:
        raise TargetError("package xgboost is not installed; pip install 'edgepress[search]'") from None
    names, counts = np.unique(list(networks), return_counts=True)
    of = dict(zip(names, counts, strict=True))
    weights = np.array([1.0 / of[n] for n in networks])
    model = xgboost.XGBRegressor(
        n_estimators=200,
        max_depth=3,
        learning_rate=0.05,
        subsample=0.7,
        colsample_bytree=0.5,
        min_child_weight=5,
        reg_lambda=5,
        objective="reg:pseudohubererror",
        huber_slope=0.3,
        n_jobs=1,
        random_state=0,
    )
    model.fit(rows, np.clip(residuals, -_CLIPPED, _CLIPPED), sample_weight=weights / weights.mean())

    def predict(asked: Array) -> Array:
        return np.asarray(_SHRUNK * model.predict(asked), float)

    return predict
