"""Layer by layer: weights that give the float network's outputs from the inputs that the integers really give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from export.graph.ir import Graph, Grid, Linear
from export.policy import QuantPolicy
from export.tuning.adaround import adaround

__all__ = ["reconstruct"]

_POSITIONS = 50_000  # of which each layer is fitted
_CHUNK = 8  # inputs at a time
_RIDGE = 1e-3  # of the mean second moment: keeps the fit near the float weights


def reconstruct(
    graph: Graph, images: Tensor, policy: QuantPolicy, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Round all weights in place, in order of execution.

    For each layer, as the policy says: least squares of the float outputs on the quantized inputs (bias
    included); rounding to nearest, or by the inputs' second moments: GPTQ (Frantar et al., arXiv:2210.17323,
    algorithm 1) or AdaRound; the bias that makes the mean error of each channel zero (Nagel et al., arXiv:1906.04721,
    section 4.2, measured).
    """
    teacher: dict[str, Tensor] = {graph.input: images}
    student: dict[str, Tensor] = {}
    with torch.no_grad():
        plain = graph.walk(teacher, images, quantized=False)
        student[graph.input] = graph.snap(graph.input, images)
        last = {name: k for k, op in enumerate(graph.ops) for name in op.inputs}
        for position, op in enumerate(graph.ops):
            known = {n: teacher[n] for n in op.inputs if n in teacher}
            next(plain)
            if op.linear is not None and op.linear.weight in graph.grids and op.inputs[0] in student:
                _layer(graph, op.linear, known[op.inputs[0]], student[op.inputs[0]], policy)
            inputs = [student[n] if n in student else graph.snap(n, graph.constants[n]) for n in op.inputs]
            student[op.output] = graph.snap(op.output, op.run(*inputs))
            for name in op.inputs:
                if last[name] == position:
                    student.pop(name, None)
            progress(position + 1)


def _layer(graph: Graph, linear: Linear, exact: Tensor, found: Tensor, policy: QuantPolicy) -> None:
    weight = graph.originals[linear.weight]
    bias = graph.originals[linear.bias] if linear.bias is not None else None
    rows = linear.rows(weight).double()
    grid = graph.grids[linear.weight]
    if policy.correction == "none" and policy.rounding == "nearest":
        grid.scale = _scale(linear, grid, rows, policy)
        graph.constants[linear.weight] = grid.snap(weight)
        return
    x, y = _samples(linear, exact, found, weight, bias)
    mean_x, mean_y = x.mean(2, keepdim=True), y.mean(2, keepdim=True)
    if bias is not None:
        x, y = x - mean_x, y - mean_y
    moments = x @ x.transpose(1, 2) / x.shape[2]
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    damp = moments.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
    if policy.correction == "least-squares":
        cross = y @ x.transpose(1, 2) / x.shape[2]
        system = moments + _RIDGE * damp + 1e-12 * eye
        rows = torch.linalg.solve(system, (cross + _RIDGE * rows @ damp).transpose(1, 2)).transpose(1, 2)
    grid.scale = _scale(linear, grid, rows, policy)
    scale = grid.scale.double().expand(rows.shape[0] * rows.shape[1]) if grid.scale.dim() == 0 else grid.scale.double()
    steps = scale.reshape(rows.shape[0], rows.shape[1], 1)
    if policy.rounding == "gptq":
        rounded = _gptq(rows, moments + 0.01 * damp + 1e-12 * eye, steps, grid)
    elif policy.rounding == "adaround":
        rounded = adaround(rows, moments + 0.01 * damp + 1e-12 * eye, steps, grid)
    else:
        rounded = torch.clamp(torch.round(rows / steps), -grid.high, grid.high) * steps
    graph.constants[linear.weight] = linear.weight_of(rounded.float())
    if linear.bias is not None and policy.correction != "none":
        graph.constants[linear.bias] = (mean_y - rounded @ mean_x).reshape(-1).float()


def _samples(
    linear: Linear, exact: Tensor, found: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Patches of the inputs (G, F, P) and the outputs wanted there (G, O, P), at some of the positions."""
    xs, ys = [], []
    chunks = list(zip(torch.split(exact, _CHUNK), torch.split(found, _CHUNK), strict=True))
    every = 1
    for number, (old, new) in enumerate(chunks):
        x = linear.patches(new)
        if number == 0:
            every = -(-x.shape[2] * len(chunks) // _POSITIONS)
        keep = slice(number % every, None, every)
        xs.append(x[..., keep])
        ys.append(linear.outputs(linear.apply(old, weight, bias))[..., keep])
    return torch.cat(xs, 2).double(), torch.cat(ys, 2).double()


def _scale(linear: Linear, grid: Grid, rows: Tensor, policy: QuantPolicy) -> Tensor:
    """Symmetric weight scales, in the shape of the grid's: one a channel where the file has one a channel.

    From the largest value; for few bits, or where weights are fitted anyway, of least squared rounding error.
    """
    flat = rows.reshape(-1, rows.shape[2]) if grid.scale.numel() > 1 else rows.reshape(1, -1)
    largest = flat.abs().amax(1).clamp(min=1e-9)
    best = largest / grid.high
    if policy.rounding != "nearest" or grid.high < 127:
        best_error = torch.full_like(largest, float("inf"))
        for share in torch.linspace(1.0, 0.6 if grid.high > 7 else 0.3, 30).tolist():
            scale = largest * share / grid.high
            steps = torch.clamp(torch.round(flat / scale[:, None]), -grid.high, grid.high) * scale[:, None]
            error = ((steps - flat) ** 2).sum(1)
            best, best_error = torch.where(error < best_error, scale, best), torch.minimum(error, best_error)
    if policy.scheme == "power-of-two":
        best = torch.exp2(torch.ceil(torch.log2(best)))
    return best.float().reshape(grid.scale.shape)


def _gptq(rows: Tensor, moments: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Column by column; the columns left make up for each one's rounding error."""
    rows = rows.clone()
    result = torch.zeros_like(rows)
    order = moments.diagonal(dim1=1, dim2=2).mean(0).argsort(descending=True)
    inverse = torch.linalg.cholesky(torch.linalg.inv(moments[:, order][:, :, order]), upper=True)
    for k, column in enumerate(order.tolist()):
        value = rows[:, :, column]
        steps = torch.clamp(torch.round(value / scale[..., 0]), -grid.high, grid.high) * scale[..., 0]
        result[:, :, column] = steps
        error = (value - steps) / inverse[:, k, k][:, None]
        rest = order[k + 1 :]
        rows[:, :, rest] -= error[..., None] * inverse[:, k, k + 1 :][:, None, :]
    return result
