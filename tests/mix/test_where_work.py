"""The estimated cost of a `where` grows with the text, the number of terms and the slowness of patterns."""

from __future__ import annotations

import pytest

from choline_data.where.filter_work import work_of
from choline_data.where.language import parse_where

SIZES = {"text": 2000.0, "kind": 4.0, "extra": 100.0}


def work(where: str) -> float:
    return work_of(parse_where(where), SIZES)


def test_each_part_adds_to_the_work() -> None:
    one = work("text = 'a'")
    assert work("text = 'a' and text = 'b'") == 2 * one
    assert work("not (text = 'a' or text = 'b')") == 2 * one
    assert work("text in ('a', 'b', 'c')") == 3 * one


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        ("kind = 'chat'", "text = 'chat'"),
        ("len(kind) > 2", "len(text) > 2"),
        ("text is null", "text = 'a'"),
        ("text = 'a'", "text like '%a%'"),
        ("text like '%abcdef%'", "text like '%a_cdef%'"),
        ("text like '%a__%'", "text like '%a________%'"),
        ("extra = 'a'", "extra.score > 1"),
        ("language = 'en'", "kind = 'chat'"),
    ],
)
def test_what_takes_longer_is_reckoned_so(cheap: str, dear: str) -> None:
    assert work(cheap) < work(dear)


def test_extra_is_parsed_once_for_all_parts_that_read_it() -> None:
    both, one = work("extra.a = 1 and extra.b = 2"), work("extra.a = 1")
    assert both < 2 * one
