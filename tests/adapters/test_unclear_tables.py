"""Tables of a few lines, tables below tables, and rows of totals are read right, or asked about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.csv_table import Delimited
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import ChoiceNeededError, SourceFormatError
from choline_data.places.home import Home
from choline_data.store import open_revision

BIG = "id,a,b\n" + "".join(f"{n},{n * 3},{'x' * 40}\n" for n in range(25000))
SALES = "region,sales\nNorth,10\nSouth,20\nEast,30\nWest,40\nMid,5\n"


def adapter_of(path: Path) -> str:
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    return type(part.adapter).__name__


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.txt", "x y\n1 2\n3 4\n", [{"x": 1, "y": 2}, {"x": 3, "y": 4}]),
        ("a.dat", "1.0 2.5\n4.0 5.5\n", [{"column_0": 1.0, "column_1": 2.5}, {"column_0": 4.0, "column_1": 5.5}]),
        ("a.txt", "name age height\nAnna 23 1.71\nBob 31 1.8\n", None),
        ("a.txt", "a\tb\n1\tx\n2\ty\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ("a.txt", "name,age\nAnna,23\nBob,31\n", [{"name": "Anna", "age": 23}, {"name": "Bob", "age": 31}]),
        ("a.txt", "id;v\n1;2\n", [{"id": 1, "v": 2}]),
    ],
)
def test_a_table_of_a_few_lines_is_a_table(
    write: Callable[..., Path], read: Callable[..., Any], name: str, content: str, rows: list[dict[str, Any]] | None
) -> None:
    path = write(name, content)
    assert adapter_of(path) == "Delimited"
    found = read(Delimited(), path)
    assert rows is None or found.rows == rows
    assert found.count == content.count("\n") - (not content[0].isdigit())


@pytest.mark.parametrize("content", ["alpha 0.5\nbeta 0.7\n", "red,green\nblue,white\nbrown,black\n"])
def test_a_few_lines_that_may_be_a_table_are_a_question(write: Callable[..., Path], content: str) -> None:
    with pytest.raises(ChoiceNeededError, match="may be a table or plain text"):
        adapter_of(write("a.txt", content))


@pytest.mark.parametrize(
    "content",
    [
        "The road was long.\nThe night was cold.\n",
        "O wind, if winter comes\ncan spring, I ask, be far\n",
        "one two three\nfour five six\n",
        "Just one line, with a comma\n",
    ],
)
def test_a_few_lines_of_prose_are_a_text(write: Callable[..., Path], content: str) -> None:
    assert adapter_of(write("a.txt", content)) == "Text"


def test_a_second_table_far_below_is_refused(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    path = write("a.csv", BIG + "\nname,score,who\n" + "".join(f"n{n},{n},q\n" for n in range(300)))
    found = read(Delimited(), path)
    assert isinstance(found.error, SourceFormatError)
    assert "line 25003 is the header of another table" in found.error.message
    assert read(Delimited(header="1"), path).count == 25301


def test_an_empty_line_far_below_parts_no_table_of_the_same_kind(
    write: Callable[..., Path], read: Callable[..., Any], tmp_path: Path
) -> None:
    path = write("a.csv", BIG + "\n25000,1,y\n")
    found = read(Delimited(), path)
    assert (found.error, found.count, [r.reason for r in found.rejects]) == (None, 25001, ["line 25002: an empty line"])


def test_rows_of_another_width_below_an_empty_line_are_all_counted(write: Callable[..., Path], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(write("a.csv", BIG + "\nname,score\nA,1\n"))))
    assert (done.rows, done.rejected) == (25000, 3)


@pytest.mark.parametrize("total", ["Total,105", "Grand Total,105", 'Total,"105"'])
def test_a_total_that_adds_up_is_left_out_of_the_smallest_table(
    write: Callable[..., Path], tmp_path: Path, total: str
) -> None:
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(write("a.csv", SALES + total + "\n"))))
    assert (done.rows, [r.reason for r in done.rejects]) == (5, ["line 7: a total of the rows above it"])


def test_numbers_with_separators_of_groups_add_up_too(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    rows = 'region,sales\nNorth,"$1,010"\nSouth,"$2,020"\nEast,$30\nWest,$40\nMid,$5\nTotal,"$3,105"\n'
    assert read(Delimited(), write("a.csv", rows)).count == 5


@pytest.mark.parametrize(
    "rows", [SALES + "Total,999\n", SALES.replace("East", "Subtotal,30\nEast") + "Total,105\n", SALES + "Summe,7\n"]
)
def test_a_total_that_does_not_add_up_is_a_question(
    write: Callable[..., Path], read: Callable[..., Any], rows: str
) -> None:
    path = write("a.csv", rows)
    with pytest.raises(ChoiceNeededError, match="is named a total") as asked:
        plan_source(resolve(str(path)), "x", Wishes())
    assert "--header a.csv=1" in asked.value.remedy
    assert read(Delimited(header="1"), path).count == rows.count("\n") - 1


def test_a_total_that_is_a_category_is_data(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    rows = "sex,year,n\n" + "".join(f"{sex},{2000 + n},{n}\n" for n in range(3) for sex in ("Male", "Female", "Total"))
    found = read(Delimited(), write("a.csv", rows))
    assert (found.error, found.count, found.rejects) == (None, 9, [])


def test_phylip_with_options_in_its_first_line_is_refused_by_name(write: Callable[..., Path]) -> None:
    rows = "  5   13 A\nAlpha     AACGTGGCCA AAT\nBeta      AAGGTCGCCA AAC\nGamma     CATTTCGTCA CAA\nDelta     GGTATTTCGG CCT\n"
    for name in ("infile", "a.txt"):
        with pytest.raises(SourceFormatError, match="PHYLIP"):
            adapter_of(write(name, rows))


def test_three_columns_of_numbers_are_no_intervals_of_a_genome(write: Callable[..., Path]) -> None:
    path = write("a.txt", "".join(f"{n} {n + 1} {n + 2}\n" for n in range(8)))
    assert adapter_of(path) == "Delimited"


def test_a_list_of_classes_beside_binary_data_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\n")
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes(range(7, 250)) * 12)
    with pytest.raises(ChoiceNeededError, match=r"2 files are read by no adapter: binary data"):
        plan_source(resolve(str(tmp_path)), "x", Wishes())


def test_the_columns_of_pandas_without_names_are_a_header(write: Callable[..., Path], read: Callable[..., Any]) -> None:
    found = read(Delimited(), write("a.csv", ",0\n1821,269\n1822,321\n1823,585\n1824,871\n"))
    assert (found.rows[0], found.count) == ({"column_0": 1821, "0": 269}, 4)


def test_pairs_of_words_are_no_conversation(write: Callable[..., Path]) -> None:
    graph = '{"nodes": ["HT", "FT", "YLD"], "edges": [["HT", "YLD"], ["FT", "HT"]]}'
    (part,) = plan_source(resolve(str(write("a.json", graph))), "x", Wishes()).parts
    assert part.mapping.kind == "tabular"
    talk = '{"id": 1, "edges": [["How are you?", "Very well, thank you."], ["And you?", "I am well."]]}'
    (part,) = plan_source(resolve(str(write("b.jsonl", (talk + "\n") * 8))), "x", Wishes()).parts
    assert part.mapping.kind == "chat"


def test_padded_numbers_are_numbers_and_padded_texts_stay_as_they_are(tmp_path: Path) -> None:
    rows = "".join(f"{name:8},{n:8.3f},{n:4}\n" for n, name in enumerate(["AUTAUGA", "BALDWIN", "BIBB", "CLAY "]))
    (tmp_path / "cty.csv").write_text("name,lon,n\n" + rows.rstrip("\n") + " \n")
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(tmp_path / "cty.csv")))
    batch = next(iter(open_revision(home, done.entry.revision).read(0, 4)))
    extra = [json.loads(row["extra"]) for row in batch.to_pylist()]
    assert extra[1] == {"name": "BALDWIN ", "lon": 1.0, "n": 1}
    assert extra[3] == {"name": "CLAY    ", "lon": 3.0, "n": 3}
