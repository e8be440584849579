"""Networks that do not fit are refused with what was found and what was expected."""

from dataclasses import replace

import numpy as np
import pytest

from export.errors import ExportError
from export.lut.network import Band, Network, Source, Stage, Table, band_rows, plain_taps, rotated, rows_of


def table(rows: int = 17**2, outputs: int = 4) -> Table:
    return Table(plain_taps("1x2"), np.zeros((rows, outputs), np.int8))


GOOD = Stage((table(),), 1, scale=2)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "no stages"),
        ((Stage((), 1),), "no tables"),
        ((replace(GOOD, tables=(table(rows=288),)),), r"entries int8 \(288, 4\), expected int8 \(289, 1 to 64\)"),
        ((replace(GOOD, tables=(table(outputs=3),)),), "3 values a row, expected 4"),
        ((replace(GOOD, divisor=0),), "divisor 0, expected 1 to 4096"),
        ((replace(GOOD, rotations=2),), "rotations 2, expected 1 to 4"),  # type: ignore[arg-type]
        ((GOOD, GOOD), "stage 0: scale 2, expected 1 to 1"),
        ((replace(GOOD, tables=(replace(table(), interval_bits=2),)),), "nodes 2\\^2 apart"),
        ((replace(GOOD, tables=(replace(table(), taps=plain_taps("1x2", 1)),)),), "expected one of 1 planes"),
        ((replace(GOOD, tables=(replace(table(), band=Band(2, 5)),)),), "expected 4 taps"),
        ((replace(GOOD, tables=(replace(table(), taps=((Source(0, 0, 0, 255),),) * 2),)),), "something else than 256"),
        ((replace(GOOD, tables=(replace(table(), taps=((Source(0, 0, 99),),) * 2),)),), "at most 16 pixels away"),
    ],
)
def test_what_does_not_fit_is_named(stages: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Network("bad", stages)


def test_an_unknown_pattern_names_the_known() -> None:
    with pytest.raises(ExportError, match="unknown pattern 'X'; known: S, D, Y"):
        plain_taps("X")


def test_sizes_of_the_papers() -> None:
    assert rows_of(4, 4) == 83521 and rows_of(3, 4) == 4913
    assert rows_of(4, 4, Band(2, 5)) == 1807 + 6561  # Li et al., CVPR 2024: x 0.1002
    assert len(band_rows(17, 2)) == 1807


@pytest.mark.parametrize("quarter", range(4))
def test_a_turned_tap_reads_what_the_turned_image_holds(quarter: int) -> None:
    image = np.arange(49).reshape(7, 7)
    turned = np.rot90(image, quarter)
    y, x = np.argwhere(turned == 24)[0]
    row, column = rotated(1, 2, quarter)
    assert turned[y + 1, x + 2] == image[3 + row, 3 + column]
