"""A run's folder: one process at a time, nothing done twice, nothing taken from another run."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from compress.errors import RunFolderError
from compress.options import Options
from compress.run_folder import RunFolder, next_free, stored_options

OPTIONS = Options(
    "pkg.nets:tiny",
    "mobile",
    task="restoration",
    weights=Path("w.pth"),
    arguments={"width": "4", "sizes": "1,2"},
    formats=("tflite", "onnx"),
    threads=2,
    input_size=(64, 96),
    layout="nchw",
    noise=12.5,
)


@dataclass(frozen=True)
class Step:
    """What a step of these tests returns."""

    number: int
    values: tuple[float, ...] = ()


@pytest.fixture
def elsewhere(repository):
    """Runs Python code in another process; ``root`` is its first argument."""

    def start(code, root):
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        prelude = "import sys, time\nfrom pathlib import Path\nfrom compress.run_folder import RunFolder\n"
        prelude += "from compress.errors import RunFolderError\nroot = Path(sys.argv[1])\n"
        return subprocess.Popen(
            [sys.executable, "-c", prelude + code, str(root)], stdout=subprocess.PIPE, text=True, env=environment
        )

    return start


def start_run(root):
    """A run that was started and stopped after its options were written."""
    with RunFolder(root, resume=False) as folder:
        folder.keep_options(OPTIONS)


def test_a_second_process_is_refused(tmp_path, elsewhere):
    code = "try:\n  RunFolder(root, True).__enter__()\nexcept RunFolderError as error:\n  print(error)"
    start_run(tmp_path)
    with RunFolder(tmp_path, resume=True):
        said, _ = elsewhere(code, tmp_path).communicate(timeout=60)
    assert "is in use by another process; wait for it, or choose another --out" in said
    said, _ = elsewhere(code, tmp_path).communicate(timeout=60)
    assert said == ""


def test_a_process_that_is_killed_gives_the_folder_up(tmp_path, elsewhere):
    code = "with RunFolder(root, False):\n  print('held', flush=True)\n  time.sleep(60)"
    process = elsewhere(code, tmp_path)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match="in use"), RunFolder(tmp_path, resume=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with RunFolder(tmp_path, resume=False):
        pass


def test_a_fresh_folder_is_made_with_its_parents(tmp_path):
    with RunFolder(tmp_path / "a/b", resume=False) as folder:
        assert folder.root == tmp_path / "a/b" and folder.root.is_dir()


def test_an_empty_folder_is_taken(tmp_path):
    with RunFolder(tmp_path, resume=False) as folder:
        assert folder.once("step", int, lambda: 7) == 7


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path):
    start_run(tmp_path)
    with (
        pytest.raises(RunFolderError, match=r"already holds a run; add --resume to finish it, or choose another"),
        RunFolder(tmp_path, resume=False),
    ):
        pass


def test_a_folder_that_holds_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume, message in ((False, "already holds other files; choose another"), (True, "holds no run to resume")):
        with pytest.raises(RunFolderError, match=message), RunFolder(tmp_path, resume):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_there_must_be_a_run_to_resume(tmp_path):
    root = tmp_path / "gone"
    with pytest.raises(RunFolderError, match="holds no run to resume; drop --resume"), RunFolder(root, resume=True):
        pass
    assert not root.exists()


def test_a_run_that_was_killed_at_once_can_be_resumed_and_started_again(tmp_path):
    for resume in (False, True, False):
        with RunFolder(tmp_path, resume=resume) as folder:
            assert not (folder.root / "inputs.json").exists()


def test_options_come_back_as_they_were(tmp_path):
    assert stored_options(tmp_path) is None
    start_run(tmp_path)
    assert stored_options(tmp_path) == OPTIONS


def test_a_resumed_run_keeps_the_first_options(tmp_path):
    start_run(tmp_path)
    with RunFolder(tmp_path, resume=True) as folder:
        folder.keep_options(Options("other", "other"))
    assert stored_options(tmp_path) == OPTIONS


def test_what_was_asked_for_reaches_the_model_and_the_images():
    request, data = OPTIONS.request, OPTIONS.judged_on
    assert (request.model, request.weights, request.arguments) == (OPTIONS.model, OPTIONS.weights, OPTIONS.arguments)
    assert (request.task, request.scale, request.random, request.seed) == ("restoration", None, False, 0)
    assert (data.evaluation, data.calibration, data.noise) == (None, None, 12.5)


@pytest.mark.parametrize("content", ["", '{"model": ', '{"model": 3}', "[]"])
def test_damaged_options_are_named_with_the_cure(tmp_path, content):
    (tmp_path / "options.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"options\.json: damaged .*start again with another --out"):
        stored_options(tmp_path)


def test_the_same_inputs_are_accepted_again(tmp_path):
    inputs = {"weights": "abc", "images": {"b": "2", "a": "1"}, "size": (3, 4), "none": None}
    with RunFolder(tmp_path, resume=False) as folder:
        folder.remember(inputs)
        written = (tmp_path / "inputs.json").read_bytes()
        folder.remember({k: inputs[k] for k in reversed(inputs)})
        assert (tmp_path / "inputs.json").read_bytes() == written


def test_inputs_that_changed_are_listed(tmp_path):
    with RunFolder(tmp_path, resume=False) as folder:
        folder.remember({"weights": "abc", "images": {"a": "1"}, "recipe": "int8"})
        with pytest.raises(
            RunFolderError, match="made with another images, threads, weights; resume with the same inputs"
        ):
            folder.remember({"weights": "abd", "images": {"a": "2"}, "recipe": "int8", "threads": 1})
        folder.remember({"weights": "abc", "images": {"a": "1"}, "recipe": "int8"})


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_damaged_inputs_are_named_with_the_cure(tmp_path, content):
    with RunFolder(tmp_path, resume=False) as folder:
        (tmp_path / "inputs.json").write_bytes(content)
        with pytest.raises(RunFolderError, match=r"inputs\.json: damaged .*start again with another --out"):
            folder.remember({"a": 1})


@pytest.fixture
def counted(tmp_path):
    """An entered folder, and a step that counts how often it was done."""
    calls = []

    def work():
        calls.append(None)
        return Step(len(calls), (0.1, 2.5))

    with RunFolder(tmp_path / "run", resume=False) as folder:
        yield folder, work, calls


def test_a_step_is_done_once(counted):
    folder, work, calls = counted
    first = folder.once("score", Step, work)
    assert folder.once("score", Step, work) == first == Step(1, (0.1, 2.5))
    assert len(calls) == 1


def test_another_name_is_another_step(counted):
    folder, work, calls = counted
    folder.once("a", Step, work)
    folder.once("b", Step, work)
    assert len(calls) == 2


def test_a_step_whose_result_is_no_longer_good_is_done_again(counted):
    folder, work, calls = counted
    folder.once("file", Step, work)
    asked = []
    found = folder.once("file", Step, work, lambda value: asked.append(value))
    assert asked == [Step(1, (0.1, 2.5))]
    assert found.number == len(calls) == 2
    assert folder.once("file", Step, work, lambda value: True).number == 2, "the new result is kept"


@pytest.mark.parametrize("content", [b"", b'{"number": 1, "val', b"\xff\xfe", b'{"other": 1}', b"null"])
def test_a_step_whose_file_is_damaged_is_done_again(counted, content):
    folder, work, calls = counted
    folder.once("score", Step, work)
    (folder.root / "steps/score.json").write_bytes(content)
    assert folder.once("score", Step, work).number == len(calls) == 2


def test_a_step_that_fails_leaves_nothing(counted):
    folder, work, _ = counted

    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.once("score", Step, fails)
    assert list((folder.root / "steps").iterdir()) == []
    assert folder.once("score", Step, work).number == 1


def test_a_resumed_run_takes_the_finished_steps(tmp_path):
    with RunFolder(tmp_path, resume=False) as folder:
        folder.keep_options(OPTIONS)
        folder.once("a", Step, lambda: Step(1))
    with RunFolder(tmp_path, resume=True) as folder:
        assert folder.once("a", Step, lambda: Step(2)) == Step(1)
        assert folder.once("b", Step, lambda: Step(3)) == Step(3)


def test_next_free_counts_on(tmp_path):
    assert next_free(tmp_path, "span-mobile") == tmp_path / "span-mobile"
    (tmp_path / "span-mobile").mkdir()
    assert next_free(tmp_path, "span-mobile") == tmp_path / "span-mobile-2"
    (tmp_path / "span-mobile-2").touch()
    assert next_free(tmp_path, "span-mobile") == tmp_path / "span-mobile-3"
