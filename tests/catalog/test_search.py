"""Searching cards by words and filters."""

from __future__ import annotations

import pytest

from choline_data.catalog.cards import Card, packaged_cards
from choline_data.catalog.search import search
from choline_data.errors import InvalidOptionError, UnknownFieldError


def card(name: str, **facts: object) -> Card:
    return Card(name=name, source=f"hf://datasets/someone/{name}", **facts)  # type: ignore[arg-type]


RIVERS = card("rivers", title="Rivers", tags=("geography",), license="MIT", kind="text", gate="no")
LAKES = card("lakes", description="Lakes, and the rivers into them", license="CC-BY-4.0", kind="chat", gate="auto")
TALK = card("talk", title="River talk", license="CC-BY-SA-4.0", kind="chat", languages=("de_Latn", "en"))
MIXED = card("some-code", tags=("code",), license="MIT OR Apache-2.0", kind="text")
SOME = [RIVERS, LAKES, TALK, MIXED]


def names(*query: str) -> list[str]:
    return [found.name for found in search(SOME, query)]


def test_a_name_counts_more_than_a_title_and_a_title_more_than_prose() -> None:
    assert names("rivers") == ["rivers", "lakes"]
    assert names("river") == ["rivers", "talk", "lakes"]


def test_every_word_has_to_fit() -> None:
    assert names("rivers", "lakes") == ["lakes"]
    assert names("rivers", "deserts") == []


def test_words_may_come_in_one_text_or_in_several() -> None:
    assert names("rivers license:mit") == names("rivers", "license:mit") == ["rivers"]


def test_no_query_finds_everything_in_order_of_name() -> None:
    assert names() == ["lakes", "rivers", "some-code", "talk"]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("license:mit", ["rivers", "some-code"]),
        ("license:MIT", ["rivers", "some-code"]),
        ("license:apache-2.0", ["some-code"]),
        ("license:cc-by", ["lakes"]),
        ("license:cc-by-sa-4.0", ["talk"]),
        ("license:permissive", ["rivers", "some-code"]),
        ("license:attribution", ["lakes"]),
        ("kind:chat", ["lakes", "talk"]),
        ("gate:no", ["rivers"]),
        ("language:de", ["talk"]),
        ("language:DE_Latn", ["talk"]),
        ("tag:code", ["some-code"]),
    ],
)
def test_a_filter_keeps_what_fits(term: str, found: list[str]) -> None:
    assert names(term) == found


def test_the_stricter_claim_decides_the_class_of_a_licence() -> None:
    disputed = card("disputed", license="MIT", license_audited="CC-BY-NC-4.0")
    assert search([disputed], ["license:permissive"]) == []
    assert search([disputed], ["license:non-commercial"]) == [disputed]
    assert search([disputed], ["license:mit"]) == [disputed]


def test_an_unknown_filter_names_the_nearest() -> None:
    with pytest.raises(UnknownFieldError, match="Did you mean 'license'"):
        names("licence:mit")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(InvalidOptionError, match="Did you mean kind:chat"):
        names("kind:chats")


def test_a_url_is_words_and_no_filter() -> None:
    assert names("hf://datasets/someone/lakes") == names("someone/lakes") == ["lakes"]


def test_code_under_mit_is_found_in_the_package() -> None:
    found = search(packaged_cards().values(), ["code", "license:mit"])
    assert {"magicoder-oss", "humaneval"} <= {one.name for one in found}
    assert all(one.license == "MIT" for one in found)
