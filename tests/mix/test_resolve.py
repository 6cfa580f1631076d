"""Resolving a mix to a recipe with a catalog."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recipes import with_segment

from choline_data.errors import InvalidMixError, UnknownDatasetError, UnknownFieldError
from choline_data.mix import resolve_mix
from choline_data.mix.resolve import integer_weights
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream


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
    with pytest.raises(UnknownDatasetError, match=r"'boks'.*Did you mean 'books'"):
        resolve_mix({"web": 1, "boks": 1}, library.home)


def test_a_group_that_matches_nothing_is_refused(library):
    with pytest.raises(InvalidMixError, match=r"tag:talks.*matches no dataset"):
        resolve_mix("tag:talks", library.home)


def test_the_temperature_flattens_the_shares(library):
    found = weights(resolve_mix("*^0.5", library.home))
    assert found["web"] / found["code"] == pytest.approx(10**0.5)
    assert weights(resolve_mix("*^0", library.home)) == {"web": 1, "code": 1, "books": 1, "chat": 1}


def test_groups_choose_by_kind_licence_language_and_tag(library):
    assert set(weights(resolve_mix("kind:chat", library.home))) == {"chat"}
    assert set(weights(resolve_mix("license:permissive", library.home))) == {"code", "books"}
    assert set(weights(resolve_mix("license:mit", library.home))) == {"books"}
    assert set(weights(resolve_mix("language:en", library.home))) == {"books"}
    assert set(weights(resolve_mix("tag:talk", library.home))) == {"chat"}


def test_a_group_has_its_weight_as_a_whole(library):
    assert weights(resolve_mix({"web": 1, "license:permissive": 1}, library.home)) == {
        "web": 5,
        "code": 1,
        "books": 4,
    }


def test_a_dataset_that_is_reached_twice_is_one_source_with_both_shares(library):
    # half for web alone, half for all 170 rows, of which 100 are web's
    assert weights(resolve_mix({"web": 1, "*": 1}, library.home)) == {
        "web": 27,
        "code": 1,
        "books": 4,
        "chat": 2,
    }
    with pytest.raises(InvalidMixError, match="web is in the mix twice, with max_epochs 2 and endless"):
        resolve_mix({"web": {"max_epochs": 2}, "*": 1}, library.home)


def test_a_nested_mix_shares_its_weight_and_hands_down_its_options(library):
    nested = {"weight": 1, "mix": {"code": 1, "books": 3}, "where": "len(text) > 1", "max_epochs": 2}
    recipe = resolve_mix({"web": 1, "rest": nested}, library.home)
    assert weights(recipe) == {"web": 4, "code": 1, "books": 3}
    by_name = {source.name: source for source in recipe.sources}
    assert (by_name["web"].where, by_name["web"].max_epochs) == ("", "")
    assert (by_name["code"].where, by_name["code"].max_epochs) == ("len(text) > 1", "2")


def test_one_dataset_may_be_two_sources_with_filters_of_their_own(library):
    mix = {
        "short": {"dataset": "web", "where": "len(text) = 6"},
        "long": {"dataset": "web", "where": "len(text) > 6", "weight": 2},
    }
    recipe = resolve_mix(mix, library.home)
    assert {(s.name, s.dataset, s.rows) for s in recipe.sources} == {
        ("short", "web", 10),
        ("long", "web", 90),
    }


def test_a_filter_narrows_every_source_and_leaves_empty_ones_out_of_a_group(library):
    recipe = resolve_mix("*", library.home, where="text like '%1'")
    assert {s.name: s.rows for s in recipe.sources} == {"web": 10, "code": 1, "books": 4}
    assert weights(recipe) == {"web": 10, "code": 1, "books": 4}
    with pytest.raises(InvalidMixError, match=r"chat: there are no rows to serve"):
        resolve_mix(["web", "chat"], library.home, where="text like '%1'")
    joined = resolve_mix({"web": {"where": "len(text)=6"}}, library.home, where="text like '%1' or text like '%2'")
    assert joined.sources[0].where == "(text like '%1' or text like '%2') and len(text) = 6"
    assert joined.sources[0].rows == 2


def test_an_unknown_field_in_a_filter_is_told_unless_another_of_the_group_has_it(library, shelf):
    shelf.add("scored", {"text": ["a", "b"], "extra": ['{"score": 1}', '{"score": 9}']})
    assert {s.name for s in resolve_mix("*", library.home, where="extra.score > 5").sources} == {"scored"}
    with pytest.raises(UnknownFieldError, match=r"extra\.score"):
        resolve_mix("kind:chat", library.home, where="extra.score > 5")


def test_weights_of_tokens_and_bytes_are_turned_into_samples(shelf):
    shelf.add("short", {"text": ["x" * 43] * 50})
    shelf.add("long", {"text": ["x" * 430] * 50})
    assert weights(resolve_mix({"short": 1, "long": 1}, shelf.home, unit="tokens")) == {
        "short": 10,
        "long": 1,
    }
    assert weights(resolve_mix({"unit": "tokens", "sources": "short,long"}, shelf.home)) == {
        "short": 10,
        "long": 1,
    }
    assert weights(resolve_mix("short,long", shelf.home)) == {"short": 1, "long": 1}
    in_bytes = weights(resolve_mix("short,long", shelf.home, unit="bytes"))
    assert 3 < in_bytes["short"] / in_bytes["long"] < 10
    with pytest.raises(InvalidMixError, match="unit of the mix is tokens, but the request has the unit bytes"):
        resolve_mix({"unit": "tokens", "sources": "short"}, shelf.home, unit="bytes")
    with pytest.raises(InvalidMixError, match="no unit 'words'"):
        resolve_mix("short", shelf.home, unit="words")


def test_without_repeat_each_source_is_served_once(library):
    recipe = resolve_mix({"web": 1, "code": {"max_epochs": 2.5}}, library.home, repeat=False)
    assert {s.name: s.max_epochs for s in recipe.sources} == {"web": "1", "code": "5/2"}
    assert recipe.plan().length == 125
    assert resolve_mix("web", library.home).plan().length is None


def test_a_cap_below_one_sample_is_refused(library):
    with pytest.raises(InvalidMixError, match="less than one sample"):
        resolve_mix({"code": {"max_epochs": 0.01}}, library.home)


def test_splits_and_configs_are_chosen_and_misnamed_ones_told(shelf):
    parts = {
        ("en", "train"): {"text": ["a", "b", "c"]},
        ("en", "test"): {"text": ["d"]},
        ("fr", "train"): {"text": ["e", "f"]},
    }
    shelf.add("poems", parts=parts)
    for mix, rows in (
        ("poems/all", 6),
        ("poems/train", 5),
        ("poems:en/all", 4),
        ("poems:en", 3),
        ("poems:fr/train", 2),
        ({"poems": {"split": "test"}}, 1),
    ):
        assert resolve_mix(mix, shelf.home).sources[0].rows == rows
    with pytest.raises(InvalidMixError, match=r"poems has no split 'valid'. There are: test, train"):
        resolve_mix({"poems": {"split": "valid"}}, shelf.home)
    with pytest.raises(InvalidMixError, match=r"poems:de has no config 'de'. There are: en, fr"):
        resolve_mix("poems:de", shelf.home)
    with pytest.raises(InvalidMixError, match=r"poems:fr has no split 'test'. There are: train"):
        resolve_mix({"poems:fr": {"split": "test"}}, shelf.home)
    filtered = resolve_mix("poems:en/train", shelf.home, where="text > 'a'")
    assert filtered.sources[0].rows == 2


def splits(mix, home):
    """What the recipe pins: the split of each source."""
    return {source.name: source.split for source in resolve_mix(mix, home).sources}


def texts(recipe, home):
    """Every text that the recipe serves, sorted."""
    stream = SampleStream(Store(home), recipe)
    return sorted(stream.read(0, recipe.plan().length)["text"].to_pylist())


@pytest.fixture
def parted(shelf):
    """poems: train, validation and test; chats: train_sft, train_gen and test_sft; exam: only test; plain: no splits."""
    shelf.add(
        "poems", parts={("", s): {"text": [f"{s} {n}" for n in range(3)]} for s in ("train", "validation", "test")}
    )
    shelf.add("chats", parts={("", s): {"text": [f"{s} 0"]} for s in ("train_sft", "test_sft", "train_gen")})
    shelf.add("exam", parts={("", "test"): {"text": ["question"]}})
    shelf.add("plain", {"text": ["a", "b"]})
    return shelf.home


def test_a_source_without_a_split_is_its_training_split(parted):
    assert splits("*", parted) == {"poems": "train", "chats": "train_gen+train_sft", "exam": "", "plain": ""}
    once = resolve_mix("poems,chats", parted, repeat=False)
    assert texts(once, parted) == ["train 0", "train 1", "train 2", "train_gen 0", "train_sft 0"]


def test_all_and_a_list_serve_more_than_the_training_split(parted):
    assert len(texts(resolve_mix("poems/all", parted, repeat=False), parted)) == 9
    for mix in ({"poems": {"split": ["validation", "train"]}}, "poems/train+validation", "poems/validation+train"):
        recipe = resolve_mix(mix, parted, repeat=False)
        assert recipe.sources[0].split == "train+validation"
        assert {text.split()[0] for text in texts(recipe, parted)} == {"train", "validation"}
    with pytest.raises(InvalidMixError, match=r"has no split 'valid'. There are: test, train, validation"):
        resolve_mix({"poems": {"split": ["train", "valid"]}}, parted)
    for wrong in ([], [1], [""]):
        with pytest.raises(InvalidMixError, match="split of 'poems'"):
            resolve_mix({"poems": {"split": wrong}}, parted)


def test_a_group_hands_its_split_down_and_a_member_may_have_its_own(parted):
    nested = {"split": "all", "mix": {"poems": 1, "chats": {"split": "test_sft"}}}
    assert splits({"inner": nested, "exam": 1}, parted) == {"poems": "", "chats": "test_sft", "exam": ""}


def test_the_default_and_its_name_are_one_source(parted):
    assert weights(resolve_mix({"poems": 1, "poems/train": 2}, parted)) == {"poems": 1}
    assert resolve_mix("poems", parted).digest == resolve_mix({"poems": {"split": "train"}}, parted).digest


def test_a_split_may_have_a_plus_in_its_name(shelf):
    shelf.add("odd", parts={("", s): {"text": [s]} for s in ("a", "a+b", "b")})
    assert texts(resolve_mix({"odd": {"split": "a+b"}}, shelf.home, repeat=False), shelf.home) == ["a+b"]


def test_a_filtered_source_serves_what_the_filter_keeps_each_once_an_epoch(library):
    recipe = resolve_mix("web", library.home, where="len(text) > 6", repeat=False)
    assert texts(recipe, library.home) == sorted(f"page {n}" for n in range(10, 100))
    twice = resolve_mix({"web": {"where": "len(text) > 6", "max_epochs": 2}}, library.home)
    assert texts(twice, library.home) == sorted([f"page {n}" for n in range(10, 100)] * 2)


def test_a_revision_is_pinned_and_an_earlier_one_can_be_named(shelf):
    old = shelf.add("web", {"text": ["a"]})
    new = shelf.add("web", {"text": ["a", "b"]})
    assert resolve_mix("web", shelf.home).sources[0].revision == new.revision
    found = resolve_mix(f"web@{old.revision[:12]}", shelf.home).sources[0]
    assert (found.revision, found.rows) == (old.revision, 1)
    with pytest.raises(InvalidMixError, match="no revision ffffffff"):
        resolve_mix("web@ffffffff", shelf.home)


def test_what_is_not_allowed_does_not_exist(library):
    assert set(weights(resolve_mix("*", library.home, allowed={"web", "code"}))) == {"web", "code"}
    with pytest.raises(UnknownDatasetError) as caught:
        resolve_mix("web,books", library.home, allowed={"web", "code"})
    assert "Did you mean" not in str(caught.value)


def test_extreme_weights_are_exact_or_refused(library):
    assert weights(resolve_mix({"web": 1e308, "code": 1e308}, library.home)) == {"web": 1, "code": 1}
    assert weights(resolve_mix({"web": 1e-320, "code": 3e-320}, library.home)) == {"web": 1, "code": 3}
    assert weights(resolve_mix({"web": 0.1, "code": 0.2, "books": 0.7000000000000001}, library.home))["web"] == 10**15
    with pytest.raises(InvalidMixError, match=r"'web' is less than 2\^-60"):
        resolve_mix({"web": 1e-320, "code": 1}, library.home)


@given(
    st.lists(st.fractions(0, 10**6), min_size=1, max_size=8).filter(any),
    st.fractions(Fraction(1, 10**9), 10**9),
)
def test_integer_weights_keep_the_ratios_and_do_not_know_the_scale(shares, scale):
    named = {str(n): share for n, share in enumerate(shares)}
    try:
        found = integer_weights(named)
    except InvalidMixError:
        return
    assert integer_weights({name: share * scale for name, share in named.items()}) == found
    total, whole = sum(shares), sum(found.values())
    assert all(abs(Fraction(found[n], whole) - named[n] / total) < Fraction(1, 1 << 50) for n in named)
    assert all(0 <= weight < 1 << 62 for weight in found.values())


def test_a_source_of_weight_0_stays_in_the_recipe_to_be_woken(library):
    recipe = resolve_mix({"web": 1, "code": 0}, library.home)
    assert weights(recipe) == {"web": 1, "code": 0}
    assert with_segment(recipe, 100, {"code": 1}).before(1) == recipe


def test_a_view_counts_rows_of_its_own(library):
    recipe = resolve_mix("web", library.home, view="tokens", options={"seq_len": "8"}, rows_of=lambda *_: (7, 2))
    assert (recipe.sources[0].rows, recipe.sources[0].block_rows, recipe.options) == (7, 2, {"seq_len": "8"})
    with pytest.raises(InvalidMixError, match="tokens view"):
        resolve_mix("web", library.home, view="tokens")


def test_the_rows_of_the_recipe_are_those_of_the_stream(library):
    recipe = resolve_mix({"web": {"where": "text like '%7'"}, "books": 1}, library.home, repeat=False)
    stream = SampleStream(Store(library.home), recipe)
    texts = stream.read(0, stream.length)["text"].to_pylist()
    assert len(texts) == stream.length == 50
    assert {text for text in texts if text.startswith("page")} == {f"page {n}" for n in range(7, 100, 10)}
