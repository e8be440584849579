"""The one training loop: EMA, warm-up and cosine, mixed precision, resumable at any step."""

from __future__ import annotations

import contextlib
import copy
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.data.labelled import Labelled
from compress.errors import DataError, RunFolderError, UsageError
from compress.methods.reparameterize import merged
from compress.network import CLASSIFICATION, SUPER_RESOLUTION, Network, WeightsSource
from compress.progress import Reporter
from compress.registry import MODELS
from compress.train.examples import Batch, Examples
from compress.train.image_examples import prepare_denoising, prepare_enlarging
from compress.train.labelled_examples import prepare_naming
from compress.train.recipe import TrainRecipe
from compress.train.shaping import Beginning
from compress.train.state import State, start
from compress.weights import read, sha256, write
from compress.zoo import wrap
from export.files import atomic_write

__all__ = ["train"]

_SAVE_EVERY_S = 60.0  # a run that is killed outright loses at most this much work


@dataclass
class _Session:
    """One invocation of a training run."""

    recipe: TrainRecipe
    state: State
    examples: Examples
    teacher: nn.Module | None
    out: Path
    device: torch.device
    reporter: Reporter
    losses: list[float] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"


def train(
    recipe: TrainRecipe,
    data: Sequence[Path] | Labelled,
    out: Path,
    teacher: Network | None,
    resume: bool,
    reporter: Reporter,
    begin: Beginning | None = None,
) -> Path:
    """Train a network and write ``weights.safetensors`` (EMA, deploy form) into ``out``.

    Args:
        recipe: the settings.
        data: folders of HR images or such images; for a classifier labelled images, or one folder of them.
        out: takes the prepared images, ``checkpoint.pt``, ``log.jsonl`` and the weights.
        teacher: a network of the same task whose outputs are learned too; None trains on the truth alone.
        resume: continue from the checkpoint in ``out``; the batches are the ones the first run would have seen, so
            that on the CPU the weights come out the same to the last bit.
        reporter: shows progress.
        begin: the network to train on, and what shapes it; None: a fresh one of the recipe's model and sizes.

    Raises:
        UsageError: a teacher that is missing, not wanted, or made for something else.
        RunFolderError: ``out`` holds another training run, or none where ``resume`` asks for one.
        DataError: unusable images.
        KeyboardInterrupt: passed on after a checkpoint was written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = MODELS[recipe.model].task if begin is None else begin.network.task
    _check(recipe, task, teacher)
    _claim(out, recipe, resume)
    state = start(recipe, device, begin)
    taught = teacher.module.to(device).eval() if teacher is not None and recipe.teacher_weight > 0 else None
    if task == SUPER_RESOLUTION:
        examples: Examples = prepare_enlarging(recipe, _plain(data), out / "images", taught, reporter)
    else:
        given = None if begin is None else begin.network
        network = given or wrap(recipe.model, MODELS[recipe.model], state.module, WeightsSource(None, "", False))
        examples = _examples(recipe, data, out / "images", network, reporter)
    session = _Session(recipe, state, examples, taught if examples.teacher_runs_live else None, out, device, reporter)
    if resume and session.checkpoint.exists():
        state.load(session.checkpoint)
    try:
        _loop(session)
    except KeyboardInterrupt:
        state.save(session.checkpoint)
        reporter.line(f"stopped at step {state.step}; go on with --resume")
        raise
    return _finish(session)


def _check(recipe: TrainRecipe, task: str, teacher: Network | None) -> None:
    if teacher is None:
        if recipe.teacher_weight > 0:
            raise UsageError("the recipe sets teacher_weight > 0 but no --teacher was given; set it to 0 or give one")
        return
    if recipe.teacher_weight == 0:
        raise UsageError("--teacher with teacher_weight = 0 in the recipe: it would not be listened to; set a share")
    wanted = recipe.scale if task == SUPER_RESOLUTION else 1
    if teacher.task != task or teacher.scale != wanted:
        raise UsageError(
            f"the teacher {teacher.name} is made for {teacher.task} x{teacher.scale}, {recipe.model} learns {task} "
            f"x{wanted}; choose another --teacher"
        )


def _claim(out: Path, recipe: TrainRecipe, resume: bool) -> None:
    """Make the folder ours, or find that it already is."""
    settings = out / "recipe.json"
    mine = json.dumps(asdict(recipe), indent=2)
    if settings.exists():
        if not resume:
            raise RunFolderError(f"{out} already holds a training run; add --resume, or choose another --out")
        theirs = json.loads(settings.read_text())
        changed = [k for k, v in json.loads(mine).items() if theirs.get(k) != v and k != "validate_every"]
        if changed:
            raise RunFolderError(f"{out} was started with other values of {', '.join(changed)}; choose another --out")
        return
    if resume:
        raise RunFolderError(f"{out} holds no training run to resume; drop --resume to start one")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(settings, mine)


def _examples(
    recipe: TrainRecipe, data: Sequence[Path] | Labelled, folder: Path, network: Network, reporter: Reporter
) -> Examples:
    """What a classifier or a restoring network trains on."""
    if network.task != CLASSIFICATION:
        return prepare_denoising(recipe, _plain(data), folder, network.channels, reporter)
    if network.input_size is None or network.classes is None:
        raise UsageError(f"model {recipe.model} states no input size or classes; it cannot be trained here")
    wanted = (network.channels, network.input_size, network.crop_share, network.classes)
    return prepare_naming(recipe, data, *wanted)


def _plain(data: Sequence[Path] | Labelled) -> Sequence[Path]:
    if isinstance(data, Labelled):
        raise DataError(f"data {data.name}: labelled images train classifiers; give plain images")
    return data


def _learning_rate(recipe: TrainRecipe, step: int) -> float:
    """Linear warm-up, a height that may be held, then half a cosine down to a thousandth."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    held = max(recipe.warmup_steps, recipe.hold_steps)
    share = max(0, step - held) / max(1, recipe.steps - held)
    return recipe.learning_rate * (0.001 + 0.999 * 0.5 * (1 + float(np.cos(np.pi * share))))


class _Maker:
    """Makes batches in a thread, a few ahead of the loop."""

    _AHEAD = 4

    def __init__(self, examples: Examples, first: int, last: int) -> None:
        self._examples, self._steps = examples, range(first, last)
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=self._AHEAD)
        self._stop = threading.Event()

    def _put(self, item: Batch | BaseException) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.5)
                return

    def _fill(self) -> None:
        try:
            for step in self._steps:
                if self._stop.is_set():
                    return
                self._put(self._examples.batch(step))
        except BaseException as error:  # the loop must hear of it, or it waits forever
            self._put(error)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of all steps, in order; raises whatever making one raised."""
        worker = threading.Thread(target=self._fill, daemon=True)
        worker.start()
        try:
            for _ in self._steps:
                item = self._ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stop.set()
            worker.join()


def _loop(session: _Session) -> None:
    recipe, state = session.recipe, session.state
    begun = saved = time.monotonic()
    with session.reporter.bar(f"training {recipe.model}", recipe.steps) as update:
        for batch in _Maker(session.examples, state.step, recipe.steps):
            session.losses.append(_step(session, batch))
            state.step += 1
            update(state.step)
            if state.step % recipe.validate_every == 0 or state.step == recipe.steps:
                _report(session, time.monotonic() - begun)
                saved = 0.0
            if time.monotonic() - saved > _SAVE_EVERY_S:
                state.save(session.checkpoint)
                saved = time.monotonic()


def _step(session: _Session, batch: Batch) -> float:
    """One optimizer step; the loss before it."""
    recipe, state, device = session.recipe, session.state, session.device
    batch = tuple(part.to(device, non_blocking=True) for part in batch)
    torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout of a resumed run is the one it would have had
    for group in state.optimizer.param_groups:
        group["lr"] = _learning_rate(recipe, state.step)
    half = state.step < recipe.steps * (1 - recipe.float32_share) and _has_bfloat16(device)
    inputs, taught = session.examples.inputs(batch), None
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        if session.teacher is not None:
            with torch.no_grad():
                taught = session.teacher(inputs).float()
        output = state.module(inputs)
    loss = session.examples.loss(output.float(), batch, taught)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if state.shaper is not None:
        state.shaper.on_gradients(state.module, state.step)
    torch.nn.utils.clip_grad_norm_(state.module.parameters(), recipe.clip_norm)
    state.optimizer.step()
    if state.shaper is not None:
        state.shaper.on_weights(state.module, state.step)
    state.follow(min(recipe.ema_decay, (state.step + 1) / (state.step + 10)))
    return float(loss.detach())


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are native, and so faster, on the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _deployed(state: State) -> nn.Module:
    """The averaged network, shaped and merged."""
    average = copy.deepcopy(state.average)
    if state.shaper is not None:
        state.shaper.finish(average)
    return merged(average).eval()


def _report(session: _Session, seconds: float) -> None:
    """Validate the average, log, and keep a checkpoint."""
    state, examples = session.state, session.examples
    score, loss = examples.validate(_deployed(state)), float(np.mean(session.losses))
    session.losses.clear()
    entry: dict[str, float | str] = {"step": state.step, "loss": loss, "validation": score, "seconds": seconds}
    entry["metric"] = examples.metric
    _log(session.out / "log.jsonl", entry)
    state.save(session.checkpoint)
    session.reporter.line(f"  step {state.step}: validation {score:.3f} ({examples.metric}), loss {loss:.5f}")


def _log(path: Path, entry: dict[str, float | str]) -> None:
    """Append a line; lines of a later step, left by a run that was killed, are dropped."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < entry["step"]]
    atomic_write(path, "\n".join([*kept, json.dumps(entry)]) + "\n")


def _finish(session: _Session) -> Path:
    """Write the averaged network in its deploy form, and check that the file can be read."""
    recipe, path = session.recipe, session.out / "weights.safetensors"
    deploy = _deployed(session.state)
    if recipe.half_weights:
        deploy = deploy.half().float()
    header = {
        "format": "edgepress-weights-1",
        "recipe": json.dumps(asdict(recipe)),
        "protocol": session.examples.protocol,
        "validation": f"{session.examples.validate(deploy):.3f}",
        "torch": str(torch.__version__),
    }
    write(path, (deploy.half() if recipe.half_weights else deploy).state_dict(), header)
    read(path)
    atomic_write(session.out / "sha256", sha256(path) + "\n")
    return path
