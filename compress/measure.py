"""The measurements of a run: scores, parity, latency, memory; each kept in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.errors import CompressError
from compress.methods.reparameterize import mergeable
from compress.network import Network
from compress.progress import Reporter
from compress.run_folder import RunFolder
from compress.task import Run, Scores, Task
from export import formats, tiling, timing
from export.artifact import Artifact, Session, cut_to
from export.parity import Parity, compare
from export.receptive_field import Reach
from export.timing import Host, Latency
from export.torch_session import TorchSession

__all__ = ["MERGE_TOLERANCE", "Given", "Measurer", "Merge", "Seam", "Timings", "through"]

MERGE_TOLERANCE = 1e-5
"""Largest change, of the output's peak, that merging blocks may make: float32 rounding."""


def through(session: Session, network: Network, reach: Reach) -> Run:
    """A session as a function of inputs of any size: in tiles for images, as it is for a classifier."""
    if network.classes is not None:
        return session.run
    if session.input_size is None and network.input_size is not None:
        session = tiling.FixedSize(session, network.input_size)
    return lambda image: tiling.enlarge(session, image, network.scale, reach.halo, unit=reach.step)


@dataclass(frozen=True)
class Timings:
    """Latency and memory of a run's files, in their order."""

    host: Host
    latencies: tuple[Latency, ...]
    peak_memory_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Merge:
    """What merging re-parameterisable blocks did."""

    blocks: int
    max_abs: float
    """Largest difference between the merged network and the one given, relative to the peak of the output."""


@dataclass(frozen=True)
class Seam:
    """What cutting an image into tiles costs a network that looks at the whole of it."""

    psnr_db: float
    """Of the tiled output against that of the whole image, both in torch."""
    max_abs: float
    height: int
    width: int
    tile: tuple[int, int]


@dataclass(frozen=True)
class Given:
    """What was measured of the network as it was given, in torch."""

    floor: Scores
    """Of what it must beat."""
    float32: Scores
    merge: Merge | None
    seam: Seam | None


@dataclass(frozen=True)
class Measurer:
    """Measures networks and files on one task, and keeps what it measured in a run folder."""

    task: Task
    network: Network
    reach: Reach
    threads: int
    folder: RunFolder
    reporter: Reporter

    def through(self, session: Session) -> Run:
        """A session as a function of inputs of any size."""
        return through(session, self.network, self.reach)

    def given(self, deploy: Network) -> Given:
        """All that is measured in torch; ``deploy`` is the network with its blocks merged."""
        floor = self.floor()
        float32 = self.scores("torch-float32", lambda: TorchSession(self.network.module))
        return Given(floor, float32, self.merge(deploy), self.seam())

    def floor(self) -> Scores:
        """Scores of what the network must beat."""
        return self._scores(self.task.floor_name, self.task.floor)

    def scores(self, name: str, session: Callable[[], Session]) -> Scores:
        """Scores on the task's images."""
        return self._scores(name, lambda update: self.task.judge(self.through(session()), update))

    def _scores(self, name: str, judge: Callable[[Callable[[int], None]], Scores]) -> Scores:
        def work() -> Scores:
            with self.reporter.bar(f"scoring {name}", self.task.size) as update:
                return judge(update)

        scores = self.folder.once(f"scores-{name}", Scores, work)
        self.reporter.line(f"  {name:<17} {scores.mean:6.2f} {scores.unit}")
        return scores

    def file_scores(self, artifact: Artifact) -> Scores:
        """Scores of a file, through its own runtime."""
        path = artifact.path(self.folder.root)
        return self.scores(artifact.name, lambda: formats.open_file(path, self.threads))

    def merge(self, deploy: Network) -> Merge | None:
        """The network's blocks merged, against the network given; None where nothing was merged.

        Raises:
            CompressError: the merge changed the values by more than rounding.
        """
        if deploy.module is self.network.module or not mergeable(self.network.module):
            return None

        def work() -> Merge:
            image = self._sample()
            given, merged = (TorchSession(n.module).run(image) for n in (self.network, deploy))
            found = compare(merged, given)
            return Merge(mergeable(self.network.module), found.max_abs / found.peak)

        merge = self.folder.once("merge", Merge, work)
        self.reporter.line(f"  merged {merge.blocks} blocks, largest difference {merge.max_abs:.1e} of the peak")
        if merge.max_abs > MERGE_TOLERANCE:
            raise CompressError(
                f"merging {merge.blocks} blocks of {self.network.name} changed its output by {merge.max_abs:.1e} of "
                f"the peak, expected at most {MERGE_TOLERANCE:.0e}; its merge() is wrong, please report the network"
            )
        return merge

    def seam(self) -> Seam | None:
        """What tiles cost on the first evaluation image.

        None for a network whose tiles give the whole exactly, and for one of a fixed size, which has no whole.
        """
        if self.network.classes is not None or self.reach.halo is not None or self.network.input_size is not None:
            return None

        def work() -> Seam:
            image = self._sample()
            unit = self.reach.step
            tile = tiling.round_up((max(image.shape[0] // 2, 64), max(image.shape[1] // 2, 64)), unit)
            session = TorchSession(self.network.module)
            whole = tiling.enlarge(session, image, self.network.scale, None, unit=unit)
            fixed = tiling.FixedSize(session, tile)
            found = compare(tiling.enlarge(fixed, image, self.network.scale, None, unit=unit), whole)
            return Seam(found.psnr_db, found.max_abs, image.shape[0], image.shape[1], tile)

        seam = self.folder.once("seam", Seam, work)
        self.reporter.line(
            f"  looks at the whole image: tiles of {seam.tile[0]}x{seam.tile[1]} give {seam.psnr_db:.1f} dB of it"
        )
        return seam

    def _sample(self) -> NDArray[np.float32]:
        """The first evaluation image, as large as one piece may be, its sides multiples of the unit."""
        image = self.task.sample()
        if self.network.classes is not None:
            return image
        if self.network.input_size is not None:
            return cut_to(image, *self.network.input_size)
        unit = self.reach.step
        sides = [min(side, most) for side, most in zip(image.shape[:2], tiling.MAX_TILE, strict=True)]
        height, width = (max(side // unit, 1) * unit for side in sides)
        missing = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1])), (0, 0)]
        return np.ascontiguousarray(np.pad(image, missing, "symmetric")[:height, :width])

    def parity(self, artifact: Artifact, network: Network) -> Parity:
        """The file against the network in torch, on the first evaluation image (or what a fixed size takes of it).

        Raises:
            CompressError: a float32 file that does not give the network's numbers, or one of tables that gives others.
        """

        def work() -> Parity:
            image = self._sample()
            session = formats.open_file(artifact.path(self.folder.root), self.threads)
            if session.input_size is not None:
                image = cut_to(image, *session.input_size)
            return compare(session.run(image), TorchSession(network.module).run(image))

        parity = self.folder.once(f"parity-{artifact.name}", Parity, work)
        exact = network.tables is not None
        if not (parity.max_abs == 0 if exact else parity.as_float or artifact.dtype != "float32"):
            raise CompressError(
                f"{artifact.files[0]}: differs from the network by {parity.max_abs:.2g} on outputs up to "
                f"{parity.peak:.2g}, expected {'none' if exact else 'at most 1e-4 of that'}; the conversion is wrong, "
                "do not ship this file. Please report the network"
            )
        return parity

    def timings(self, artifacts: Sequence[Artifact], size: tuple[int, int]) -> Timings:
        """Latency, in turn, at an input size, and peak memory of each file."""
        paths, channels = [a.path(self.folder.root) for a in artifacts], self.network.channels

        def work() -> Timings:
            host = timing.host()
            if host.warning:
                self.reporter.line(f"  warning: {host.warning}")
            with self.reporter.bar("timing", len(paths) + 1) as update:
                latencies = timing.measure(paths, size, channels, self.threads)
                memory = []
                for done, path in enumerate(paths, start=1):
                    update(done)
                    memory.append(timing.peak_memory(path, size, channels, self.threads))
            return Timings(host, tuple(latencies), tuple(memory))

        return self.folder.once("timings", Timings, work)
