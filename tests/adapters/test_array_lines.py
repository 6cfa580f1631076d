"""JSON Lines whose lines are arrays."""

from __future__ import annotations

import pytest

from choline_data.adapters.jsonl import JsonLines
from choline_data.errors import ChoiceNeededError, InvalidOptionError, SourceDamagedError

PEOPLE = '["Ann", 3]\n["Bob", 4]\n["Cy", 5]\n'


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('["name", "age"]\n' + PEOPLE, [{"name": n, "age": a} for n, a in (("Ann", 3), ("Bob", 4), ("Cy", 5))]),
        (PEOPLE, [{"column_0": n, "column_1": a} for n, a in (("Ann", 3), ("Bob", 4), ("Cy", 5))]),
        ('[1, {"x": [2]}]\n[3, null]\n', [{"column_0": 1, "column_1": {"x": [2]}}, {"column_0": 3}]),
        ("[12345678901234567890123]\n[1]\n", [{"column_0": "12345678901234567890123"}, {"column_0": "1"}]),
    ],
)
def test_each_array_is_a_row(read, write, content, rows):
    found = read(JsonLines(), write("a.jsonl", content))
    assert (found.error, found.rejects) == (None, [])
    assert found.rows == rows


def test_an_array_of_another_length_is_a_reject_with_its_line(read, write):
    found = read(JsonLines(), write("a.jsonl", '["name", "age"]\n' + PEOPLE + '["Dan"]\n{"name": "Eve"}\n'))
    assert [(r.row, r.reason) for r in found.rejects] == [(3, "line 5: the line holds an array, not an object")]
    assert found.count == 4


def test_a_first_line_that_may_be_a_row_is_a_question_and_each_answer_works(read, write):
    path = write("a.jsonl", "".join(f'["{a}", "{b}"]\n' for a, b in (("Ann", "Rome"), ("Bob", "Oslo"), ("Cy", "Bonn"))))
    asked = read(JsonLines(), path)
    assert isinstance(asked.error, ChoiceNeededError)
    for answer, count in (("1", 2), ("none", 3)):
        assert f"--header a.jsonl={answer} " in asked.error.remedy
        assert read(JsonLines(header=answer), path).count == count
    assert isinstance(read(JsonLines(header="first"), path).error, InvalidOptionError)


def test_a_cut_array_is_damage(read, write):
    found = read(JsonLines(), write("a.jsonl", PEOPLE + '["Dan", [1'))
    assert isinstance(found.error, SourceDamagedError)
    assert found.count == 3
