"""Columns that name media files which are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from choline_data.catalog.add import prepare
from choline_data.catalog.planning import IngestPlan, Wishes
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

PICTURES = "image,caption\n" + "".join(f"pictures/{n}.jpg,a boat on lake {n}\n" for n in range(9))


def plan(tmp_path: Path, content: str, **wishes: str) -> IngestPlan:
    (tmp_path / "a.csv").write_text(content)
    return prepare(Home(tmp_path / "home"), str(tmp_path / "a.csv"), wishes=Wishes(**wishes)).plan  # type: ignore[arg-type]


def test_pictures_that_are_not_there_are_a_question_and_each_answer_works(tmp_path: Path) -> None:
    with pytest.raises(
        ChoiceNeededError, match=r"names image files that the source does not hold, such as pictures/0\.jpg"
    ):
        plan(tmp_path, PICTURES)
    for kind in ("image", "tabular"):
        made = plan(tmp_path, PICTURES, as_kind=kind)
        assert (made.kind, [w.reason for w in made.warned]) == (kind, ["ABSENT_MEDIA"])


def test_a_column_of_names_beside_other_rows_is_a_warning(tmp_path: Path) -> None:
    rows = "clip_name,speed,weight\n" + "".join(f"run{n}.wav,{n},{2 * n}\n" for n in range(9))
    made = plan(tmp_path, rows)
    assert [w.reason for w in made.warned] == (["ABSENT_MEDIA"] if made.kind == "tabular" else [])


def test_addresses_are_no_absent_files(tmp_path: Path) -> None:
    assert plan(tmp_path, PICTURES.replace("pictures/", "https://example.org/")).warned == ()


def test_files_beside_the_table_are_not_absent(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.jpg").write_bytes(b"\xff\xd8\xff")
    assert plan(tmp_path, PICTURES).warned == ()
