"""The table of a sheet: titles above it, notes below it, Orange's three rows, and several tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter
from choline_data.adapters.registry import adapter_named
from choline_data.errors import ChoiceNeededError, InvalidOptionError, SourceFormatError

pytest.importorskip("python_calamine")
openpyxl = pytest.importorskip("openpyxl")

ROWS = [[f"p{n}", n, n / 4] for n in range(9)]
FIRST = {"name": "p0", "a": 0, "b": 0.0}


@pytest.fixture
def sheet(tmp_path: Path) -> Callable[..., Path]:
    def made(*rows: Sequence[Any]) -> Path:
        book = openpyxl.Workbook()
        for at, row in enumerate(rows, 1):
            for column, cell in enumerate(row, 1):
                book.active.cell(at, column, cell)
        book.save(tmp_path / "a.xlsx")
        return tmp_path / "a.xlsx"

    return made


def excel(header: str = "") -> Adapter:
    return adapter_named("excel", header=header)


@pytest.mark.parametrize(
    ("above", "names"),
    [
        ((["name", "a", "b"],), FIRST),
        ((["Sales of 2024"], ["name", "a", "b"]), FIRST),
        (([], ["Sales of 2024"], [], ["name", "a", "b"]), FIRST),
        ((["name", "a", "b"], ["string", "c", "continuous"], ["meta", "class", None]), FIRST),
    ],
)
def test_no_row_above_the_rows_is_a_row(sheet, read, above, names):
    found = read(excel(), sheet(*above, *ROWS))
    assert found.error is None, found.error
    assert (found.rows[0], found.count) == (names, 9)


@pytest.mark.parametrize(
    ("below", "reason"),
    [
        (["Total", 36, 9], "row 11: a total of the rows above it"),
        (["Source: the bureau"], "row 11: a note below the table"),
    ],
)
def test_a_row_below_the_table_is_a_reject_with_its_reason(sheet, read, below, reason):
    found = read(excel(), sheet(["name", "a", "b"], *ROWS, below))
    assert (found.count, [(r.row, r.reason) for r in found.rejects]) == (9, [(9, reason)])


def test_a_sheet_with_several_tables_is_refused_with_their_rows(sheet, read):
    found = read(excel(), sheet(["name", "a", "b"], *ROWS, [], ["town", "x", "y"], ["Rome", 1, 2], ["Oslo", 3, 4]))
    assert isinstance(found.error, SourceFormatError)
    assert "several tables: one up to row 10, and one from row 12 on" in str(found.error)


def test_two_tables_side_by_side_are_asked_about(sheet, read):
    path = sheet(["name", "a", None, "town", "x"], *([f"p{n}", n, None, f"t{n}", n] for n in range(9)))
    asked = read(excel(), path)
    assert isinstance(asked.error, ChoiceNeededError)
    assert "--header 'a.xlsx!Sheet'=1 " in asked.error.remedy
    assert read(excel("a.xlsx!Sheet=1"), path).count == 9


def test_units_below_the_header_are_asked_about_and_each_answer_works(sheet, read):
    path = sheet(["Sales"], ["name", "a", "b"], [None, "m", "kg"], *ROWS)
    asked = read(excel(), path)
    assert isinstance(asked.error, ChoiceNeededError)
    for answer, count in (("2-3", 9), ("2", 10)):
        assert f"'a.xlsx!Sheet'={answer} " in asked.error.remedy
        assert read(excel(f"a.xlsx!Sheet={answer}"), path).count == count
    assert read(excel("2-3"), path).rows[0] == FIRST


def test_a_stated_header_that_the_sheet_does_not_have_is_refused(sheet, read):
    assert isinstance(read(excel("77"), sheet(["name", "a", "b"], *ROWS)).error, InvalidOptionError)
