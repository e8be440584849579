"""Nothing is heard of a converter, and everything is heard of us."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from export.quiet import native_output_to

_TALK = """
import ctypes, os, subprocess, sys, warnings
from pathlib import Path
from export.quiet import native_output_to

libc = ctypes.CDLL(None)
print("before")
with native_output_to(Path(sys.argv[1])):
    print("python stdout")
    print("python stderr", file=sys.stderr)
    os.write(1, b"unbuffered\\n")
    subprocess.run(["echo", "a process started"])
    warnings.warn("a warning")
    libc.puts(b"C stdio")
print("after")
print("after, stderr", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[str, str, str]:
    """(stdout, stderr, log) of a process that is quiet for a while."""
    log = tmp_path_factory.mktemp("quiet") / "conversion.log"
    # unbuffered, C's stdout would hide whether its buffer is flushed in time
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", _TALK, str(log)]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr, log.read_text()


@pytest.mark.parametrize("words", ["python stdout", "python stderr", "unbuffered", "a process started"])
def test_what_is_said_inside_is_in_the_log_alone(spoken: tuple[str, str, str], words: str) -> None:
    stdout, stderr, log = spoken
    assert words in log
    assert words not in stdout + stderr


def test_what_native_code_still_holds_in_its_buffer_is_in_the_log_alone(spoken: tuple[str, str, str]) -> None:
    stdout, stderr, log = spoken
    assert "C stdio" in log
    assert "C stdio" not in stdout + stderr


def test_what_is_said_before_and_after_is_heard(spoken: tuple[str, str, str]) -> None:
    stdout, stderr, log = spoken
    assert "before\n" in stdout
    assert "after\n" in stdout
    assert "after, stderr\n" in stderr
    assert "before" not in log
    assert "after" not in log


def test_warnings_are_dropped(spoken: tuple[str, str, str]) -> None:
    assert "a warning" not in "".join(spoken)


def test_a_second_time_appends(tmp_path: Path) -> None:
    for line in (b"first\n", b"second\n"):
        with native_output_to(tmp_path / "log"):
            os.write(1, line)
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_after_an_exception_all_is_as_before(tmp_path: Path) -> None:
    ends = [os.fstat(descriptor) for descriptor in (1, 2)]
    with pytest.raises(ZeroDivisionError), native_output_to(tmp_path / "log"):
        raise ZeroDivisionError
    assert [(e.st_dev, e.st_ino) for e in ends] == [(e.st_dev, e.st_ino) for e in map(os.fstat, (1, 2))]
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_a_log_that_cannot_be_opened_leaves_all_as_before(tmp_path: Path) -> None:
    end = os.fstat(1)
    with pytest.raises(FileNotFoundError), native_output_to(tmp_path / "no folder" / "log"):
        pass
    assert (end.st_dev, end.st_ino) == (os.fstat(1).st_dev, os.fstat(1).st_ino)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with native_output_to(tmp_path / "log"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
