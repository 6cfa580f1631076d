"""A mix made exact against a catalog."""

from __future__ import annotations

import pytest

from choline_data.errors import InvalidMixError, UnknownDatasetError
from choline_data.mix import resolve_mix


def weights(recipe):
    return dict(recipe.segments[0].weights)


def test_a_mapping_and_a_string_come_to_the_same_recipe(library):
    one = resolve_mix({"web": 0.7, "code": 0.3}, library.home)
    other = resolve_mix("code:3,web:7", library.home)
    assert weights(one) == {"web": 7, "code": 3}
    assert one.digest == other.digest
    assert {source.name: source.rows for source in one.sources} == {"web": 100, "code": 10}


def test_everything_is_weighed_by_its_rows(library):
    assert weights(resolve_mix("*", library.home)) == {"web": 10, "code": 1, "books": 4, "chat": 2}


def test_an_unknown_dataset_says_which_was_meant(library):
    with pytest.raises(UnknownDatasetError, match="'boks'.*Did you mean 'books'"):
        resolve_mix({"web": 1, "boks": 1}, library.home)


def test_a_group_that_matches_nothing_is_refused(library):
    with pytest.raises(InvalidMixError, match="tag:talks.*matches no dataset"):
        resolve_mix("tag:talks", library.home)
