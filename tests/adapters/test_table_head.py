"""The head and the foot of delimited text: titles, units, types, row names, totals, and the questions about them."""

from __future__ import annotations

import pytest

from choline_data.adapters.csv_table import Delimited
from choline_data.errors import ChoiceNeededError, InvalidOptionError

ROWS = "".join(f"p{n},{n},{2 * n}\n" for n in range(9))
FIRST = {"name": "p0", "a": 0, "b": 0}
TOWNS = "Alice,Berlin\nBob,Paris\nCarl,Rome\nDave,Oslo\nEve,Bonn\n"


@pytest.mark.parametrize(
    ("content", "first", "count"),
    [
        ("name,a,b\nstring,continuous,d\nmeta,,class\n" + ROWS, FIRST, 9),
        ("name,a,b\ns,c,yes no\nclass\n" + ROWS, FIRST, 9),
        ("Report 2023\n\nname,a,b\n" + ROWS, FIRST, 9),
        ("Report, 2023\nby someone\nname,a,b\n" + ROWS, FIRST, 9),
        ("Report 2023,,\n,,\nname,a,b\n" + ROWS, FIRST, 9),
        ("a,b\n" + ROWS, {"row_name": "p0", "a": 0, "b": 0}, 9),
        ('"a" "b"\n"1" 2 "x y"\n"2" 3 "z"\n"3" 4 "w"\n', {"row_name": 1, "a": 2, "b": "x y"}, 3),
        ("ham,hello\nspam,win\nham,a\nham,b\nspam,q\n", {"column_0": "ham", "column_1": "hello"}, 5),
        (
            "569,4,malignant,benign\n" + "1.5,2,3,4,0\n" * 9,
            {f"column_{n}": v for n, v in enumerate((1.5, 2, 3, 4, 0))},
            9,
        ),
        (("name,a,b\n" + ROWS).replace("\n", "\r"), FIRST, 9),
        (("name,a,b\n" + ROWS).replace("\n", "\r\r\n"), FIRST, 9),
        ('"long\nname",a,b\n' + ROWS, {"long\nname": "p0", "a": 0, "b": 0}, 9),
    ],
)
def test_no_line_above_the_rows_is_a_row(read, write, content, first, count):
    found = read(Delimited(), write("a.csv", content))
    assert found.error is None, found.error
    assert (found.rows[0], found.count, found.rejects) == (first, count, [])


def test_a_column_that_orange_calls_a_string_stays_text(read, write):
    text = "zip,x,y\nstring,c,d\nmeta,,class\n10,1,a\n20,2,b\n30,3,a\n"
    assert read(Delimited(), write("a.tab", text.replace(",", "\t"))).rows[0] == {"zip": "10", "x": 1, "y": "a"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name,a,b\n" + ROWS + "Total,36,72\n", "line 11: a total of the rows above it"),
        ("name,a,b\n" + ROWS + "Source: the bureau,,\n", "line 11: a note below the table"),
        ("name,a,b\n" + ROWS + "name,a,b\n" + ROWS, "line 11: the header once more"),
    ],
)
def test_a_line_that_is_no_row_is_a_reject_with_its_reason(read, write, content, reason):
    found = read(Delimited(), write("a.csv", content))
    assert [(r.row, r.reason) for r in found.rejects] == [(9, reason)]
    assert found.count in (9, 18)
    assert found.types == {"name": "string", "a": "int64", "b": "int64"}


def test_a_row_that_is_only_named_total_stays_a_row(read, write):
    found = read(Delimited(), write("a.csv", "name,a,b\n" + ROWS + "Total SA,5,6\n"))
    assert (found.count, found.rejects) == (10, [])


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        (TOWNS, {"1": 4, "none": 5}),
        ("Et,C2H5\nMe,CH3\nPh,C6H5\n", {"1": 2, "none": 3}),
        ("name,a,b\n,m,kg\n" + ROWS, {"1-2": 9, "1": 10}),
        ("0,a,b,Total,5\n" + "".join(f"{n},c,d,{n},4\n" for n in range(9)), {"none": 10, "1": 9}),
        ("apple\nbanana\ncherry\nplum\nfig\n", {"1": 4, "none": 5}),
    ],
)
def test_what_may_be_read_in_two_ways_is_asked_and_each_answer_works(read, write, content, answers):
    path = write("a.csv", content)
    asked = read(Delimited(), path)
    assert isinstance(asked.error, ChoiceNeededError)
    assert asked.rows == []
    for answer, count in answers.items():
        assert f"--header a.csv={answer} " in asked.error.remedy
        for option in (answer, f"other.csv=7,a.csv={answer}"):
            found = read(Delimited(header=option), path)
            assert (found.error, found.count, found.rejects) == (None, count, [])


def test_a_header_that_does_not_name_all_columns_is_refused(read, write):
    found = read(Delimited(header="1"), write("a.csv", "Report\n\nname,a,b\n" + ROWS))
    assert isinstance(found.error, InvalidOptionError)
    assert "--header 1" in str(found.error)


@pytest.mark.parametrize("header", ["0", "2-1", "first", "1-"])
def test_a_header_that_is_no_line_is_refused(read, write, header):
    assert isinstance(read(Delimited(header=header), write("a.csv", "name,a,b\n" + ROWS)).error, InvalidOptionError)


@pytest.mark.parametrize(("word", "between"), [("tab", "\t"), ("~", "~"), ("blank", "  "), (",", ",")])
def test_a_delimiter_is_stated_by_a_word_or_by_itself(read, write, word, between):
    rows = [("name", "n"), ("x", "1"), ("y", "2")]
    found = read(Delimited(delimiter=word), write("a.csv", "".join(f"{between.join(row)}\n" for row in rows)))
    assert found.rows == [{"name": "x", "n": 1}, {"name": "y", "n": 2}]


def test_a_second_table_below_an_empty_line_is_a_question(read, write):
    path = write("a.csv", "month,rain\nmay,61\njune,57\njuly,61\n\n\nmonth,runoff\nmay,4\njune,5\njuly,6\n")
    asked = read(Delimited(), path)
    assert isinstance(asked.error, ChoiceNeededError)
    assert "line 7 is the header of another table" in str(asked.error)
    assert "--header a.csv=1 " in asked.error.remedy
    assert read(Delimited(header="1"), path).count == 7


def test_a_second_table_far_below_is_a_question(read, write):
    rows = "".join(f"{n},{n / 4}\n" for n in range(300))
    asked = read(Delimited(), write("a.csv", f"hour,well\n{rows},\nPlate,\nhour,well\n{rows}"))
    assert isinstance(asked.error, ChoiceNeededError)
    assert "line 303 is the header of another table" in str(asked.error)


def test_blanks_at_the_beginning_of_a_line_are_no_part_of_a_number(read, write):
    found = read(Delimited(), write("a.csv", "id, x, y\n" + "".join(f"    {n},  {n}.5,   {n}\n" for n in range(9))))
    assert found.rows[3] == {"id": 3, "x": 3.5, "y": 3}
