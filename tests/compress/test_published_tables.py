"""Published tables become networks of ours, and score what their authors state."""

from pathlib import Path

import numpy as np
import pytest

from compress import published_tables
from compress.cli import main
from compress.data import folder
from compress.errors import DataError
from compress.evaluate import score
from export.compiled import compiler
from export.lut import container
from export.lut.native import runner


def save(path: Path, rows: int, outputs: int = 4, dtype: type = np.int8) -> Path:
    np.save(path, np.zeros((rows, 1, outputs), dtype))
    return path


def mulut(tmp_path: Path, stages: int = 2, patterns: str = "sd") -> list[Path]:
    return [
        save(tmp_path / f"m_s{k}_{p}.npy", 5**4, 16 if k == stages else 1)
        for k in range(1, stages + 1)
        for p in patterns
    ]


@pytest.mark.parametrize(("rows", "taps", "bits"), [(17**4, 4, 4), (17**3, 3, 4), (9**2, 2, 5), (5**4, 4, 6)])
def test_a_single_table_is_told_by_its_rows(tmp_path: Path, rows: int, taps: int, bits: int) -> None:
    network = published_tables.load([save(tmp_path / "a.npy", rows)], "a")
    (table,) = network.stages[0].tables
    assert (len(table.taps), table.interval_bits, network.scale, network.padding) == (taps, bits, 2, "reflect")


def test_a_pattern_decides_where_the_rows_leave_it_open(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", 81)  # 9^2 and 3^4
    (table,) = published_tables.load([path], "a", "D").stages[0].tables
    assert (len(table.taps), table.interval_bits) == (4, 7)


def test_stages_are_told_by_the_names(tmp_path: Path) -> None:
    network = published_tables.load(mulut(tmp_path)[::-1], "m")
    first, last = network.stages
    assert (first.divisor, first.bias, last.divisor, last.bias, network.scale) == (8, 127, 2, 0, 4)
    assert {s.plane for t in last.tables for s in t.sources} == {1}


@pytest.mark.parametrize(
    ("make", "pattern", "message"),
    [
        (lambda p: [save(p / "a.npy", 100)], None, r"100 rows, expected nodes\^taps"),
        (lambda p: [save(p / "a.npy", 17**2, dtype=np.float32)], None, "expected an int8 array"),
        (lambda p: [save(p / "a.npy", 17**2, 3)], None, "3 values a row, expected scale x scale"),
        (lambda p: [save(p / "a.npy", 17**2)], "S", r"289 rows, expected nodes\^4 for its pattern"),
        (lambda p: mulut(p)[:-1], None, "stage 2: tables S, expected the patterns of stage 1"),
        (lambda p: [*mulut(p), save(p / "a.npy", 17)], None, r"a.npy: several files must be named"),
        (lambda p: [p / "none.npy"], None, "none.npy: not a NumPy array"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, make, pattern, message) -> None:
    with pytest.raises(DataError, match=message):
        published_tables.load(make(tmp_path), "a", pattern)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a NumPy array"):
        published_tables.load([tmp_path / "evil.npy"], "evil")


def test_the_command_writes_a_file_that_can_be_scored(tmp_path: Path, photos_folder, capsys) -> None:
    out = tmp_path / "m.lut"
    assert main(["lut", "import", *map(str, mulut(tmp_path)), "--out", str(out)]) == 0
    assert "m.lut: x4, 21 KiB of tables, 16 look-ups" in capsys.readouterr().out
    assert main(["validate", str(out), "--data", str(photos_folder()), "--quiet"]) == 0
    for kind in ("c", "lut"):
        export = ["export", "--model", str(out), "--format", kind, "--out", str(tmp_path / "out"), "--quiet"]
        assert main(export) == 0
        assert main([*export, "--recipe", "int8"]) == 2
    assert {"m_x4_int8.c", "m_x4_int8.h", "Makefile", "m_x4_int8.lut"} <= {p.name for p in (tmp_path / "out").iterdir()}
    if compiler() is not None:
        assert (
            main(["validate", str(tmp_path / "out/m_x4_int8.c"), "--data", str(photos_folder("more")), "--quiet"]) == 0
        )
    assert main(["lut", "import", str(tmp_path / "none.npy"), "--out", str(out)]) == 2
    assert main(["lut", "import", *map(str, mulut(tmp_path)), "--out", str(tmp_path / "m.bin")]) == 2
    assert container.read(out).scale == 4


PUBLISHED = {
    "SR-LUT S x4": (["srlut/Model_S_x4_4bit_int8.npy"], 29.832),
    "SR-LUT S x2": (["srlut/Model_S_x2_4bit_int8.npy"], 35.518),
    "MuLUT x4": ([f"mulut/LUT_ft_x4_4bit_int8_s{s}_{p}.npy" for s in (1, 2) for p in "sdy"], 30.608),
}


@pytest.mark.parametrize("title", PUBLISHED)
def test_published_tables_score_on_set5_what_is_stated(shared: Path, title: str) -> None:
    files, stated = PUBLISHED[title]
    network = published_tables.load([shared / "data/weights/lut" / f for f in files], "net")
    run, scores = runner(network, 2), []
    for pair in folder.pairs(shared / "data/sr/Set5", network.scale):
        small, large = pair.load()[:2]
        found = np.stack([run(np.ascontiguousarray(small[..., c])) for c in range(3)], -1)
        scores.append(score(found, large, network.scale).psnr)
    assert np.mean(scores) == pytest.approx(stated, abs=0.01)
