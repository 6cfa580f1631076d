"""The `where` language: which rows it keeps, which expressions it refuses, and that a selection is computed once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import DamagedStoreError, InvalidPredicateError, UnknownFieldError
from choline_data.store import Revision
from choline_data.where.language import parse_where
from choline_data.where.predicate import And, Compare, Field, In, IsNull, Length, Like, Not, Or
from choline_data.where.selection import evaluate, selected_rows, selection_name, within


@pytest.fixture
def forum(shelf):
    """Six posts with every sort of field; block_rows 4, so that they lie in two blocks."""
    entry = shelf.add(
        "forum",
        {
            "text": ["hello", "a longer greeting", None, "50% off", "line one\nline two", "ünïcödé"],
            "language": ["en", "en", "de", None, "en", "fr"],
            "label": [
                [{"name": "spam", "value": None, "score": 0.9}, {"name": "ham", "value": "x", "score": 0.1}],
                [],
                None,
                [{"name": "ham", "value": "y", "score": 0.2}],
                [{"name": "ham", "value": None, "score": None}],
                [{"name": "spam", "value": None, "score": 0.5}],
            ],
            "turns": [[{"role": "user", "content": "x"}] * n for n in (0, 1, 2, 3, 4, 5)],
            "extra": [
                json.dumps(row)
                for row in (
                    {"score": 1, "source": "wiki/a", "meta": {"ok": True}},
                    {"score": 2.5, "source": "wiki/b"},
                    {"score": "high", "source": None},
                    {"odd key": 1, "source": "web"},
                    {"score": -3, "meta": {"ok": False, "n": 7}},
                    {"score": 10, "source": "100%_sure"},
                )
            ],
            "time": [1_700_000_000_000_000 + day * 86_400_000_000 for day in range(6)],
        },
    )
    return Revision(shelf.home, entry.revision)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("language = 'en'", [0, 1, 4]),
        ("'en' = language", [0, 1, 4]),
        ('language == "en"', [0, 1, 4]),
        ("language != 'en'", [2, 5]),
        ("not language = 'en'", [2, 5]),
        ("not not language = 'en'", [0, 1, 4]),
        ("language is null", [3]),
        ("language is not null", [0, 1, 2, 4, 5]),
        ("language in ('de', 'fr')", [2, 5]),
        ("language not in ('de', 'fr')", [0, 1, 4]),
        ("len(text) <= 7", [0, 3, 5]),
        ("7 >= len(text)", [0, 3, 5]),
        ("len(turns) > 3", [4, 5]),
        ("len(label) = 2", [0]),
        ("label = 'ham'", [3, 4]),
        ("label.value = 'y'", [3]),
        ("label.score >= 0.5", [0, 5]),
        ("label is null", [1, 2]),
        ("text like '%greet%'", [1]),
        ("text like 'line%two'", [4]),
        ("text like '_ello'", [0]),
        ("text not like '%o%'", [5]),
        ("extra.score > 1", [1, 5]),
        ("extra.score = 'high'", [2]),
        ("extra.source like 'wiki/_'", [0, 1]),
        ("extra.source is null", [2, 4]),
        ("extra.meta.ok = true", [0]),
        ("extra.meta.n = 7", [4]),
        ("extra.'odd key' = 1", [3]),
        ("extra.score in (1, 10)", [0, 5]),
        ("len(extra.source) = 6", [0, 1]),
        ("kind = 'text'", [0, 1, 2, 3, 4, 5]),
        ("kind = 'chat'", []),
        ("time >= '2023-11-18'", [4, 5]),
        ("origin.row < 2", [0, 1]),
        ("origin.file = 'forum' and origin.row = 5", [5]),
        ("url is null", [0, 1, 2, 3, 4, 5]),
        ("media is null or len(media) > 0", [0, 1, 2, 3, 4, 5]),
        ("media.mime = 'image/png'", []),
        ("language = 'en' or language = 'fr' and extra.score > 5", [0, 1, 4, 5]),
        ("(language = 'en' or language = 'fr') and extra.score > 5", [5]),
        ("language = 'en' AND NOT text LIKE 'h%'", [1, 4]),
    ],
)
def test_a_where_keeps_the_rows_it_says(forum, where, rows):
    assert evaluate(forum, parse_where(where)).tolist() == rows


@pytest.mark.parametrize(
    ("where", "offset", "says"),
    [
        ("", 0, "a field or a constant is expected, not the end"),
        ("language = ", 11, "not the end"),
        ("language = 'en", 11, "a string does not end"),
        ("language = 'en' nonsense", 16, "'nonsense' follows after the end of the expression"),
        ("(language = 'en'", 16, "a bracket is not closed"),
        ("language ~ 'en'", 9, "'~' has no meaning"),
        ("language 'en'", 9, "a comparison is expected"),
        ("1 = 1", 0, "compares two constants"),
        ("text = url", 7, "compares two fields"),
        ("text = 5", 7, "text is text"),
        ("len(text) = 'a'", 12, "is a number"),
        ("len(text) is null", 0, "a length is never null"),
        ("lower(text) = 'a'", 0, "there is no function 'lower'"),
        ("len('a') = 1", 4, "len needs a field"),
        ("len(label.score) = 1", 4, "has no length"),
        ("label.score like 'a'", 17, "'like' compares text"),
        ("text like 5", 10, "a pattern in quotes"),
        ("text = null", 7, "nothing can be compared with null"),
        ("text is 5", 8, "'is' must be followed by"),
        ("turns = 'x'", 8, "turns is a list"),
        ("time > 'yesterday'", 7, "this is not a time"),
        ("text in 'a'", 8, "must be followed by a list in brackets"),
        ("text in ('a', url)", 14, "constants only"),
        ("text in ('a'", 12, "the list is not closed"),
        ("extra. = 1", 7, "a name is expected after the dot"),
        ("extra.a = 1e999", 10, "the number is too large"),
    ],
)
def test_a_where_that_can_not_be_read_says_where_and_why(where, offset, says):
    with pytest.raises(InvalidPredicateError) as caught:
        parse_where(where)
    assert caught.value.metadata["offset"] == str(offset)
    assert says in str(caught.value)


def test_an_unknown_field_says_which_was_meant():
    with pytest.raises(UnknownFieldError, match=r"no field 'languge'. Did you mean 'language'"):
        parse_where("languge = 'en'")


def test_a_key_of_extra_that_no_row_has_says_which_was_meant(forum):
    with pytest.raises(UnknownFieldError, match=r"no field 'extra.sorce'. Did you mean 'extra.source'"):
        evaluate(forum, parse_where("extra.sorce = 'wiki'"))


def test_the_limits_hold_at_their_edge():
    parse_where(" or ".join(["text = 'a'"] * 333))
    with pytest.raises(InvalidPredicateError, match="more than 1000 parts"):
        parse_where(" or ".join(["text = 'a'"] * 334))
    parse_where("(" * 49 + "text = 'a'" + ")" * 49)
    with pytest.raises(InvalidPredicateError, match="nested more than 50"):
        parse_where("(" * 50 + "text = 'a'" + ")" * 50)
    with pytest.raises(InvalidPredicateError, match="nested more than 50"):
        parse_where("not " * 16_000 + "text = 'a'")
    parse_where("text = '" + "a" * 65_527 + "'")
    with pytest.raises(InvalidPredicateError, match="longer than 65536 bytes"):
        parse_where("text = '" + "a" * 65_528 + "'")
    parse_where("text like '" + "a" * 1000 + "'")
    with pytest.raises(InvalidPredicateError, match="longer than 1000 characters"):
        parse_where("text like '" + "a" * 1001 + "'")


@pytest.mark.parametrize("where", ["text = 'it''s'", 'text = "it\'s"', "  text='it''s'  ", "(text = 'it''s')"])
def test_texts_that_say_the_same_have_one_normal_form(where):
    assert parse_where(where).text == "text = 'it''s'"


_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
_KEYS = st.builds(lambda steps: Field("extra", tuple(steps)), st.lists(_TEXT, min_size=1, max_size=3))
_LEAVES = st.one_of(
    st.builds(
        Compare,
        st.sampled_from([Field("text"), Field("url")]),
        st.sampled_from(["=", "!=", "<", ">="]),
        _TEXT,
    ),
    st.builds(Compare, st.builds(Length, st.sampled_from([Field("text"), Field("turns")])), st.just("<"), _NUMBERS),
    st.builds(Compare, _KEYS, st.just("="), _TEXT | _NUMBERS | st.booleans()),
    st.builds(In, _KEYS, st.lists(_TEXT, min_size=1, max_size=3, unique=True).map(tuple)),
    st.builds(Like, st.just(Field("text")), _TEXT.filter(lambda text: "%%" not in text)),
    st.builds(IsNull, _KEYS),
)


def _combined(inner):
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        several.map(lambda terms: And(tuple(t for x in terms for t in (x.terms if isinstance(x, And) else (x,))))),
        several.map(lambda terms: Or(tuple(t for x in terms for t in (x.terms if isinstance(x, Or) else (x,))))),
        inner.map(lambda term: term.term if isinstance(term, Not) else Not(term)),
    )


@given(st.recursive(_LEAVES, _combined, max_leaves=12))
def test_a_printed_tree_is_read_back_as_that_tree(tree):
    assert parse_where(str(tree)).tree == tree


@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            [
                *"()',.=<>%",
                "text",
                "extra",
                "and",
                "or",
                "not",
                "in",
                "like",
                "is",
                "null",
                "len",
                "1",
                "'a'",
                " ",
            ]
        ),
        max_size=20,
    ).map(" ".join)
)
def test_any_text_is_a_predicate_or_a_stated_error(text):
    try:
        predicate = parse_where(text)
    except (InvalidPredicateError, UnknownFieldError):
        return
    assert parse_where(predicate.text) == predicate


def test_no_hostile_predicate_is_more_than_an_error(shared_data, forum):
    for where in json.loads((shared_data / "hostile/config/hostile_predicates.json").read_text()):
        try:
            rows = evaluate(forum, parse_where(where))
        except (InvalidPredicateError, UnknownFieldError):
            continue
        harmless = {"text LIKE '%%": 5, "text = '\x00'": 0, "text = '\U0001f600'": 0}
        told = [count for start, count in harmless.items() if where.startswith(start)] or [0]
        assert where.startswith(("text LIKE '%", "text = '")), where
        assert len(rows) == told[0]


def test_a_selection_is_made_once_and_kept(forum, shelf):
    predicate = parse_where("language = 'en'")
    assert selected_rows(shelf.home, forum, "language='en'").tolist() == [0, 1, 4]
    before = shelf.home.read(selection_name(forum.revision, predicate))
    assert selected_rows(shelf.home, forum, '(language = "en")').tolist() == [0, 1, 4]
    assert shelf.home.read(selection_name(forum.revision, predicate)) == before
    assert shelf.home.names("selections") == [selection_name(forum.revision, predicate)]


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-40], lambda raw: raw.replace(b"language", b"languaga"), lambda raw: b""]
)
def test_a_damaged_selection_is_told_not_served(forum, shelf, damage):
    selected_rows(shelf.home, forum, "language = 'en'")
    path = Path(shelf.home.path(selection_name(forum.revision, parse_where("language = 'en'"))))
    raw = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(damage(raw))
    with pytest.raises(DamagedStoreError, match="makes it again"):
        selected_rows(shelf.home, forum, "language = 'en'")


def test_a_selection_is_cut_to_the_spans_of_a_split():
    rows = np.array([0, 3, 4, 9, 12])
    assert within(rows, [(0, 4), (9, 12)]).tolist() == [0, 3, 9]
    assert within(rows, []).tolist() == []
