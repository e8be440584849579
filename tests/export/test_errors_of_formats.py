"""Whatever is wrong with a file or an installation, one message says so."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export import formats
from export.artifact import ExportSpec
from export.errors import ExportError, MissingRuntimeError

MISSING = [("onnx", "onnxruntime"), ("openvino", "openvino"), ("tflite", "ai_edge_litert.interpreter")]
Heard = Callable[[str], tuple[Path, list[tuple[str, str]]]]
"""Format to folder and (file, message) pairs."""

every_format = pytest.mark.parametrize("name", formats.names())


@pytest.mark.parametrize(("typo", "nearest"), [("tflight", "tflite"), ("onx", "onnx"), ("open-vino", "openvino")])
def test_an_unknown_format_names_the_nearest(typo: str, nearest: str) -> None:
    with pytest.raises(ExportError, match=f"unknown format '{typo}'; did you mean '{nearest}'[?] known: .*{nearest}"):
        formats.by_name(typo)


def test_a_format_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(ExportError, match=f"unknown format 'qqq'; known: {', '.join(formats.names(tables=True))}$"):
        formats.by_name("qqq")


@pytest.mark.parametrize("name", formats.names(tables=True))
def test_a_format_has_all_that_is_promised(name: str) -> None:
    module = formats.by_name(name)
    assert {"RUNTIME", "RUNTIME_MODULE", "SUFFIX", "open", "operators", "read_card", "write"} <= set(module.__all__)
    assert module.SUFFIX.startswith(".")
    assert formats.of_file(Path(f"net{module.SUFFIX}")) == name


@pytest.mark.parametrize("use", [formats.of_file, formats.read_card, lambda path: formats.open_file(path, 1)])
@pytest.mark.parametrize("file", ["net.pt", "net", "net.onnx.zip", "net.ONNX"])
def test_an_unknown_suffix_lists_the_known_ones(use: Callable[[Path], object], file: str) -> None:
    with pytest.raises(ExportError, match=r"unknown suffix '.*'; known: \.c, \.lut, \.onnx, \.tflite, \.xml"):
        use(Path(file))


@pytest.mark.parametrize("use", [formats.read_card, lambda path: formats.open_file(path, 1)])
@every_format
def test_a_file_that_is_not_there_is_named(use: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{formats.by_name(name).SUFFIX}"
    for _ in ("missing", "a folder"):
        with pytest.raises(ExportError, match=rf"{path.name}: no such file$"):
            use(path)
        path.mkdir(exist_ok=True)


_TRY_ALL = """
import json, sys
from pathlib import Path
from export import formats
from export.errors import ExportError

for path in map(Path, sys.argv[1:]):
    for use in (lambda p: formats.open_file(p, 1), formats.read_card):
        try:
            heard = f"no error: {use(path)}"
        except ExportError as error:
            heard = str(error)
        except Exception as error:
            heard = f"traceback: {type(error).__name__}: {error}"
        sys.stdout.write(json.dumps([path.name, heard]) + "\\n")
        sys.stdout.flush()
"""


def damaged(content: bytes) -> dict[str, bytes]:
    """What a file may have become."""
    random = np.random.default_rng(0)
    torn = bytearray(content)
    for position in random.integers(0, len(content), 200):
        torn[position] = random.integers(256)
    return {
        "empty": b"",
        "text": b"this is no network\n",
        "zeros": bytes(1000),
        "noise": random.bytes(5000),
        "noise-behind-the-head": content[:16] + random.bytes(5000),
        "half": content[: len(content) // 2],
        "cut": content[:-100],
        "torn": bytes(torn),
    }


@pytest.fixture(scope="session")
def heard(plain_file: Callable[..., Path], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """``heard(format)``: (folder, [(file, message) ...]): each damage opened, and its card read, in a process.

    A runtime that ends its process on a bad file must not take the tests with it.
    """
    known: dict[str, tuple[Path, list[tuple[str, str]]]] = {}

    def listen(name: str) -> tuple[Path, list[tuple[str, str]]]:
        if name not in known:
            folder, whole = tmp_path_factory.mktemp(f"damaged-{name}"), plain_file(name)
            paths = [folder / f"{kind}{whole.suffix}" for kind in damaged(b"-" * 1000)]
            for path, content in zip(paths, damaged(whole.read_bytes()).values(), strict=True):
                path.write_bytes(content)
                if (weights := whole.with_suffix(".bin")).exists():
                    shutil.copy(weights, path.with_suffix(".bin"))
            command = [sys.executable, "-c", _TRY_ALL, *map(str, paths)]
            done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"ended by the last of {done.stdout}"
            known[name] = folder, [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        return known[name]

    return listen


@every_format
def test_a_damaged_file_is_named_with_the_cure(heard: Heard, name: str) -> None:
    folder, messages = heard(name)
    messages = [(file, message) for file, message in messages if not file.startswith("empty.")]
    assert len(messages) == 2 * (len(damaged(b"-" * 1000)) - 1)
    assert [m for f, m in messages if not m.startswith(f"{folder / f}: ") or "export it again" not in m] == []


@every_format
def test_an_empty_file_is_named_with_the_cure(heard: Heard, name: str) -> None:
    folder, messages = heard(name)
    opened, card = (message for file, message in messages if file.startswith("empty."))
    for message in (opened, card):
        assert message.startswith(f"{folder / 'empty'}.")
        assert "export it again" in message


@every_format
def test_the_reason_given_is_a_reason_and_not_a_line_of_source(heard: Heard, name: str) -> None:
    _, messages = heard(name)
    assert [message for _, message in messages if ".cpp:" in message] == []


def test_an_openvino_file_without_its_weights_is_refused(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(plain_file("openvino"), tmp_path))
    with pytest.raises(ExportError, match=r"runtime refuses the file .* export it again"):
        formats.open_file(path, 1)
    path.with_suffix(".bin").write_bytes(plain_file("openvino").with_suffix(".bin").read_bytes()[:100])
    with pytest.raises(ExportError, match=r"runtime refuses the file .* export it again"):
        formats.open_file(path, 1)


def test_a_file_of_another_hand_has_no_card(conv_onnx: Callable[..., Path]) -> None:
    assert formats.read_card(conv_onnx(None)) is None


def test_a_card_of_another_version_is_refused(plain_file: Callable[..., Path], tmp_path: Path) -> None:
    from export import tflite_graph

    path = Path(shutil.copy(plain_file("tflite"), tmp_path))
    tflite_graph.write_card(path, json.dumps({"edgepress": 2}))
    with pytest.raises(ExportError, match=r"edgepress card cannot be read .*; export the file again"):
        formats.read_card(path)


@pytest.mark.parametrize(("name", "module"), MISSING)
def test_a_missing_runtime_gives_the_command_that_installs_it(
    plain_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    path = plain_file(name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingRuntimeError) as caught:
        formats.open_file(path, 1)
    assert f"format {name} needs package {module}, which is not installed" in str(caught.value)
    assert f"pip install 'edgepress[{name}]'" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "module", "dtype"),
    [
        ("onnx", "onnx", "float32"),
        ("openvino", "openvino", "float32"),
        ("tflite", "litert_torch", "float32"),
        ("tflite", "ai_edge_quantizer", "int8"),
    ],
)
def test_a_missing_converter_gives_the_command_that_installs_it(
    plain: nn.Module,
    make_spec: Callable[..., ExportSpec],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    dtype: str,
    tmp_path: Path,
) -> None:
    plain = copy.deepcopy(plain)  # no conversion of it is kept from another test
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingRuntimeError, match=rf"pip install 'edgepress\[{name}\]'"):
        formats.write(name, make_spec(plain, dtype), tmp_path, "net")
    assert [path.name for path in tmp_path.iterdir()] == ["conversion.log"]
