"""The measurements of a run: scores, parity, latency, memory; each kept in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data.bicubic import upscale
from compress.errors import CompressError
from compress.evaluate import to_uint8
from compress.network import Network
from compress.progress import Reporter
from compress.run_folder import RunFolder
from compress.task import Scores, Task
from export import formats, tiling, timing
from export.artifact import Artifact, Session
from export.parity import Parity, compare
from export.timing import Host, Latency
from export.torch_session import TorchSession
from targets.profile import TargetProfile

__all__ = ["Bicubic", "Measurer", "Timings"]


class Bicubic:
    """The baseline, as a session."""

    input_size: tuple[int, int] | None = None

    def __init__(self, scale: int) -> None:
        self._scale = scale

    def prepare(self, image: NDArray[np.float32]) -> Callable[[], object]:
        """A call that enlarges this image."""
        return lambda: self.run(image)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w, 3) in [0, 1] to (scale*h, scale*w, 3)."""
        return upscale(to_uint8(image), self._scale).astype(np.float32) / np.float32(255.0)


@dataclass(frozen=True)
class Timings:
    """Latency and memory of a run's files, in their order."""

    host: Host
    latencies: tuple[Latency, ...]
    peak_memory_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Measurer:
    """Measures networks and files on one task, and keeps what it measured in a run folder."""

    task: Task
    scale: int
    halo: int | None
    threads: int
    folder: RunFolder
    reporter: Reporter

    def scores(self, name: str, session: Callable[[], Session], halo: int | None) -> Scores:
        """Scores on the task's images, run whole or in tiles of the halo given."""

        def work() -> Scores:
            opened = session()
            with self.reporter.bar(f"scoring {name}", len(self.task.evaluation)) as update:
                return self.task.judge(lambda image: tiling.enlarge(opened, image, self.scale, halo), update)

        scores = self.folder.once(f"scores-{name}", Scores, work)
        self.reporter.line(f"  {name:<17} {scores.psnr:6.2f} dB")
        return scores

    def file_scores(self, artifact: Artifact) -> Scores:
        """Scores of a file, through its own runtime."""
        path = artifact.path(self.folder.root)
        return self.scores(artifact.name, lambda: formats.open_file(path, self.threads), self.halo)

    def parity(self, artifact: Artifact, network: Network) -> Parity:
        """The file against the network in torch, on the first evaluation image.

        Raises:
            CompressError: a float32 file that does not give the network's numbers.
        """

        def work() -> Parity:
            image = self.task.evaluation[0].load()[0].astype(np.float32) / np.float32(255.0)
            image = image[: tiling.MAX_TILE[0], : tiling.MAX_TILE[1]]
            session = formats.open_file(artifact.path(self.folder.root), self.threads)
            output = tiling.enlarge(session, image, self.scale, self.halo)
            return compare(output, TorchSession(network.module).run(image))

        parity = self.folder.once(f"parity-{artifact.name}", Parity, work)
        if artifact.dtype == "float32" and not parity.as_float:
            raise CompressError(
                f"{artifact.files[0]}: differs from the network by {parity.max_abs:.2g} on outputs in [0, 1], "
                "expected at most 1e-4; the conversion is wrong, do not ship this file. Please report the network"
            )
        return parity

    def timings(self, artifacts: Sequence[Artifact], profile: TargetProfile, channels: int) -> Timings:
        """Latency, in turn, at the profile's input size, and peak memory of each file."""
        paths = [a.path(self.folder.root) for a in artifacts]
        size = (profile.input.height, profile.input.width)

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
