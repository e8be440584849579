"""The one training loop: L1 to the HR image and to a teacher, EMA, cosine, resumable at any step."""

from __future__ import annotations

import contextlib
import copy
import json
import queue
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.data.crops import Crops, prepare
from compress.data.folder import Pair, find_hr
from compress.errors import RecipeError, RunFolderError, UsageError, nearest
from compress.evaluate import protocol, score, to_uint8
from compress.methods.reparameterize import merged
from compress.progress import Reporter
from compress.registry import TRAINABLE
from compress.weights import read, sha256, write
from export.files import atomic_path, atomic_write

__all__ = ["TrainRecipe", "load_recipe", "train"]


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides the weights; read from TOML, written into their header."""

    model: str = "span"
    scale: Annotated[int, pydantic.Field(ge=2, le=4)] = 4
    channels: Annotated[int, pydantic.Field(ge=4)] = 32
    steps: Annotated[int, pydantic.Field(ge=1)] = 30_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    """Side of the LR crop, pixels."""
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, pydantic.Field(ge=0)] = 200
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    """Share of the L1 distance to the teacher's output; the rest is the distance to HR."""
    ema_decay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.999
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    float32_share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.1
    """Last part of the steps run in float32; the others use bfloat16 where the processor has it."""
    holdout_every: Annotated[int, pydantic.Field(ge=2)] = 24
    """Every n-th image is kept for validation and never trained on."""
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000
    clip_norm: Annotated[float, pydantic.Field(gt=0)] = 1.0
    seed: int = 0


def load_recipe(path: Path) -> TrainRecipe:
    """A training recipe from a TOML file.

    Raises:
        RecipeError: missing file, bad TOML, unknown key (the nearest is named) or a value out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"training recipe {path}: {error}") from None
    known = TrainRecipe.__dataclass_fields__
    for key in values:
        if key not in known:
            raise RecipeError(f"training recipe {path}: unknown key {key!r}; {nearest(key, known)}")
    try:
        return pydantic.TypeAdapter(TrainRecipe).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"training recipe {path}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None


@dataclass
class _State:
    """What a checkpoint holds."""

    module: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        with atomic_path(path) as part:
            torch.save(
                {
                    "module": self.module.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "step": self.step,
                },
                part,
            )

    def load(self, path: Path) -> None:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(saved["module"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]


def train(
    recipe: TrainRecipe,
    data: Sequence[Path],
    out: Path,
    teacher: nn.Module | None,
    resume: bool,
    reporter: Reporter,
) -> Path:
    """Train a network and write ``weights.safetensors`` (EMA, deploy form, float16) into ``out``.

    Args:
        recipe: the settings.
        data: folders of HR images.
        out: takes the prepared images, ``checkpoint.pt``, ``log.jsonl`` and the weights.
        teacher: a network of the same scale whose outputs are learned too; None trains on HR alone.
        resume: continue from the checkpoint in ``out``; the batches are the ones the first run would have seen.
        reporter: shows progress.

    Raises:
        RunFolderError: ``out`` holds another training run, or none where ``resume`` asks for one.
        DataError: unusable images.
        KeyboardInterrupt: passed on after a checkpoint was written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if teacher is None and recipe.teacher_weight > 0:
        raise UsageError("the recipe sets teacher_weight > 0 but no --teacher was given; set it to 0 or give one")
    _claim(out, recipe, resume)
    images = [image for folder in data for image in find_hr(folder)[0]]
    held = images[:: recipe.holdout_every]
    crops = _prepare(recipe, [i for i in images if i not in set(held)], out / "images", teacher, reporter, device)
    state = _fresh(recipe, device)
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.exists():
        state.load(checkpoint)
    validation = [Pair(p.stem, p, None, recipe.scale) for p in held]
    try:
        _loop(recipe, state, crops, validation, out, reporter, device)
    except KeyboardInterrupt:
        state.save(checkpoint)
        reporter.line(f"stopped at step {state.step}; go on with --resume")
        raise
    return _finish(recipe, state, validation, out, device)


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


def _prepare(
    recipe: TrainRecipe,
    images: Sequence[Path],
    folder: Path,
    teacher: nn.Module | None,
    reporter: Reporter,
    device: torch.device,
) -> Crops:
    enlarge = _enlarger(teacher.to(device), device) if teacher is not None else None
    with reporter.bar("preparing training images", len(images) * len(recipe.shrink)) as update:
        return prepare(
            images, folder, (recipe.scale, recipe.crop), recipe.shrink, enlarge, lambda done, total: update(done)
        )


def _enlarger(module: nn.Module, device: torch.device) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The module as a function of uint8 images (h, w, 3)."""

    def enlarge(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            x = torch.from_numpy(lr).to(device).permute(2, 0, 1)[None].float() / 255.0
            return to_uint8(module(x)[0].permute(1, 2, 0).cpu().numpy())

    return enlarge


def _fresh(recipe: TrainRecipe, device: torch.device) -> _State:
    torch.manual_seed(recipe.seed)
    module = TRAINABLE[recipe.model](recipe.scale, recipe.channels)
    module = module.to(device)
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), fused=True)
    return _State(module, copy.deepcopy(module).eval(), optimizer)


def _learning_rate(recipe: TrainRecipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to a thousandth."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.001 + 0.999 * 0.5 * (1 + float(np.cos(np.pi * share))))


def _batches(recipe: TrainRecipe, crops: Crops, first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches from step ``first`` on, cut by a thread while the step before is computed."""
    ready: queue.Queue[tuple[Tensor, Tensor, Tensor]] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def fill() -> None:
        for step in range(first, recipe.steps):
            batch = crops.batch(recipe.batch, recipe.seed, step)
            item = (torch.from_numpy(batch[0]), torch.from_numpy(batch[1]), torch.from_numpy(batch[2]))
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(item, timeout=0.5)
                    break
            if stop.is_set():
                return

    worker = threading.Thread(target=fill, daemon=True)
    worker.start()
    try:
        for _ in range(first, recipe.steps):
            yield ready.get()
    finally:
        stop.set()
        worker.join()


def _loop(
    recipe: TrainRecipe,
    state: _State,
    crops: Crops,
    validation: Sequence[Pair],
    out: Path,
    reporter: Reporter,
    device: torch.device,
) -> None:
    start, losses = time.monotonic(), 0.0
    with reporter.bar(f"training {recipe.model} x{recipe.scale}", recipe.steps) as update:
        for batch in _batches(recipe, crops, state.step):
            losses += _step(recipe, state, batch, device)
            state.step += 1
            update(state.step)
            if state.step % recipe.validate_every == 0 or state.step == recipe.steps:
                psnr = _validate(state.average, validation, device)
                entry = {
                    "step": state.step,
                    "loss": losses / recipe.validate_every,
                    "validation_psnr": psnr,
                    "seconds": time.monotonic() - start,
                }
                losses = 0.0
                _log(out / "log.jsonl", entry)
                state.save(out / "checkpoint.pt")
                reporter.line(f"  step {state.step}: validation {psnr:.3f} dB, loss {entry['loss']:.5f}")


def _step(recipe: TrainRecipe, state: _State, batch: tuple[Tensor, Tensor, Tensor], device: torch.device) -> float:
    """One optimizer step; the loss before it."""
    lr, hr, teacher = (t.to(device, memory_format=torch.channels_last).float() / 255.0 for t in batch)
    for group in state.optimizer.param_groups:
        group["lr"] = _learning_rate(recipe, state.step)
    half = state.step < recipe.steps * (1 - recipe.float32_share) and _has_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        output = state.module(lr)
    output = output.float()
    loss = (1 - recipe.teacher_weight) * F.l1_loss(output, hr) + recipe.teacher_weight * F.l1_loss(output, teacher)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.module.parameters(), recipe.clip_norm)
    state.optimizer.step()
    decay = min(recipe.ema_decay, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.parameters()), list(state.module.parameters()), 1 - decay)
    return float(loss.detach())


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are native, and so faster, on the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _validate(module: nn.Module, pairs: Sequence[Pair], device: torch.device) -> float:
    """Mean PSNR of the held-out images, by the protocol."""
    enlarge = _enlarger(merged(module).eval(), device)
    values = []
    for pair in pairs:
        lr, hr = pair.load()
        values.append(score(enlarge(lr), hr, pair.scale).psnr)
    return float(np.mean(values))


def _log(path: Path, entry: dict[str, float]) -> None:
    """Append a line; lines of a later step, left by a run that was killed, are dropped."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < entry["step"]]
    atomic_write(path, "\n".join([*kept, json.dumps(entry)]) + "\n")


def _finish(recipe: TrainRecipe, state: _State, validation: Sequence[Pair], out: Path, device: torch.device) -> Path:
    """Write the averaged network in its deploy form, and check that the file gives the same scores."""
    deploy = merged(state.average).half()
    path = out / "weights.safetensors"
    header = {
        "format": "edgepress-weights-1",
        "recipe": json.dumps(asdict(recipe)),
        "protocol": protocol(recipe.scale),
        "validation_psnr": f"{_validate(deploy.float(), validation, device):.3f}",
        "torch": str(torch.__version__),
    }
    write(path, deploy.half().state_dict(), header)
    read(path)
    atomic_write(out / "sha256", sha256(path) + "\n")
    return path
