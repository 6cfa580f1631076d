"""The explanation of a mix, with numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from choline_data.mix import explain


@pytest.fixture
def texts(shelf):
    """small: 100 samples of 10 tokens (43 bytes); big: 1,000 samples of 100 tokens."""
    shelf.add("small", {"text": ["x" * 43] * 100}, license="MIT")
    shelf.add("big", {"text": ["x" * 430] * 1000})
    return shelf.home


def test_shares_samples_tokens_and_epochs_of_a_budget(texts):
    told = explain({"small": 1, "big": 1}, texts, tokens=110_000)
    small, big = sorted(told.sources, key=lambda s: s.rows)
    assert told.samples == pytest.approx(2000, abs=6)
    assert told.tokens == pytest.approx(110_000, abs=110)
    assert (small.share, big.share) == (0.5, 0.5)
    assert small.token_share == pytest.approx(1 / 11, abs=0.001)
    assert small.samples == pytest.approx(1000, abs=6)
    assert small.tokens == small.samples * 10
    assert small.epochs == pytest.approx(10, abs=0.1)
    assert big.epochs == pytest.approx(1, abs=0.01)
    assert (small.license, big.license) == ("MIT", "NOASSERTION")


def test_the_repetition_trap_is_flagged_above_four_epochs(texts):
    told = explain({"small": 1, "big": 1}, texts, tokens=110_000)
    assert [s.repeated for s in told.sources] == [False, True]
    assert any("small is repeated 10.0 times" in note for note in told.notes)
    assert not any(s.repeated for s in explain({"small": 1, "big": 10}, texts, tokens=100_000).sources)


def test_a_capped_source_says_where_it_runs_out(texts):
    told = explain({"small": {"weight": 1, "max_epochs": 2}, "big": 1}, texts, tokens=110_000)
    small = next(s for s in told.sources if s.name == "small")
    assert small.samples == 200
    assert small.runs_out == pytest.approx(400, abs=6)
    assert told.recipe.plan().samples_before(small.runs_out)[1] == 200
    assert next(s for s in told.sources if s.name == "big").runs_out is None
    assert f"small runs out at position {small.runs_out}." in told.notes


def test_a_stream_that_ends_before_the_budget_says_so(texts):
    told = explain({"small": 1, "big": 1}, texts, tokens=300e9, repeat=False)
    assert (told.samples, told.length) == (1100, 1100)
    assert told.tokens == 101_000
    assert any("ends after 1100 samples, about 101000 tokens, before the budget" in note for note in told.notes)


def test_without_a_budget_it_is_one_pass_over_everything(texts):
    assert explain("*", texts).tokens == pytest.approx(101_000, abs=110)


def test_the_unit_of_the_weights_decides_the_token_shares(texts):
    told = explain({"small": 1, "big": 1}, texts, tokens=50_000, unit="tokens")
    assert {s.name: round(s.token_share, 1) for s in told.sources} == {"small": 0.5, "big": 0.5}


def test_a_budget_of_300_billion_is_no_loop(texts):
    told = explain({"small": 1, "big": 3}, texts, tokens=300e9)
    assert told.tokens == pytest.approx(300e9, rel=1e-6)


def test_it_says_which_split_each_source_takes(shelf):
    shelf.add("poems", parts={("", split): {"text": [split]} for split in ("train", "test")})
    shelf.add("exam", parts={("", split): {"text": [split]} for split in ("dev", "test")})
    shelf.add("plain", {"text": ["a"]})
    told = explain("*", shelf.home)
    assert {s.name: s.split for s in told.sources} == {"poems": "train", "exam": "all", "plain": ""}
    assert told.notes[0] == "exam serves every split: dev, test. `split` chooses."
    assert [s.split for s in explain("poems/all", shelf.home).sources] == ["all"]
