"""Streams whose sources run out: exact lengths, and what follows for each `on_exhausted`."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from tests.order.small_plans import placed, plan, ranks_are_whole

from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.quotas import Quotas


def test_renormalize_serves_all_that_every_source_has():
    for caps in itertools.product([1, 2, 5, 40], repeat=3):
        of = plan([5, 2, 1], list(caps))
        assert of.length == sum(caps)
        rows = placed(of, 0, of.length)
        assert np.bincount(rows[:, 0], minlength=3).tolist() == list(caps)
        assert ranks_are_whole(rows)


def test_stop_ends_where_the_first_source_runs_out():
    for caps in itertools.product([1, 2, 5, 40, None], repeat=2):
        of = plan([3, 1], list(caps), on_exhausted="stop")
        if caps == (None, None):
            assert of.length is None
            continue
        rows = placed(of, 0, of.length)
        counts = np.bincount(rows[:, 0], minlength=2).tolist()
        assert any(cap is not None and count == cap for cap, count in zip(caps, counts, strict=True))
        assert all(cap is None or count <= cap for cap, count in zip(caps, counts, strict=True))
        # one more slot would ask for a sample that is not there
        one_more = Quotas([3, 1]).after(of.length + 1)
        assert any(cap is not None and count > cap for cap, count in zip(caps, one_more.tolist(), strict=True))


def test_error_has_the_positions_of_stop_and_names_what_ran_out():
    for caps in itertools.product([1, 2, 5, 40, None], repeat=2):
        of, stopped = plan([3, 1], list(caps), on_exhausted="error"), plan([3, 1], list(caps), on_exhausted="stop")
        assert of.length == stopped.length
        if of.length is None:
            assert of.missing() == []
            continue
        assert np.array_equal(placed(of, 0, of.length), placed(stopped, 0, of.length))
        out = [n for n, (cap, got) in enumerate(zip(caps, of.samples_before(of.length), strict=True)) if cap == got]
        assert of.missing() == (out if len(out) == 1 else [])


def test_what_has_run_out_is_missed_only_where_the_mix_still_asks_for_it():
    assert plan([(0, (1, 1)), (10, (1, 0))], [None, 5], on_exhausted="error").missing() == []
    assert plan([(0, (1, 1)), (100, (1, 0))], [None, 5], on_exhausted="error").missing() == [1]
    assert plan([1], [7], on_exhausted="error").missing() == []
    assert plan([1, 0], [7, 7], on_exhausted="error").missing() == []
    assert plan([1, 2, 0], [7, 70, 7], on_exhausted="error").missing() == [0]
    assert plan([1, 1], [7, None]).missing() == []


def test_repeat_begins_again_until_each_source_has_been_through():
    for caps in itertools.product([1, 2, 5, 40], repeat=3):
        of = plan([5, 2, 1], list(caps), on_exhausted="repeat")
        rows = placed(of, 0, of.length)
        counts = np.bincount(rows[:, 0], minlength=3).tolist()
        assert all(count >= cap for count, cap in zip(counts, caps, strict=True))
        assert ranks_are_whole(rows)
        # with one slot less, some source would not have been through
        fewer = Quotas([5, 2, 1]).after(of.length - 1)
        assert any(count < cap for count, cap in zip(fewer.tolist(), caps, strict=True))
        assert of.ends() == [None, None, None]


def test_repeat_keeps_the_mix_to_its_end():
    of = plan([1, 3], [10_000, 100], on_exhausted="repeat")
    assert of.length == pytest.approx(40_000, abs=12)
    rows = placed(of, 0, of.length)
    assert abs(int((rows[:, 0] == 1).sum()) - 30_000) <= 12
    assert np.array_equal(placed(of, 5000, 9000), rows[5000:9000])
    assert np.array_equal(placed(of, 5000, 9000), placed(plan([1, 3]), 5000, 9000))


def test_a_source_without_an_end_or_without_weight_decides_no_end_of_a_stream_that_repeats():
    assert plan([1, 1], [10, None], on_exhausted="repeat").length is None
    assert plan([1, 0], [10, None], on_exhausted="repeat").length == 10
    assert plan([(0, (1, 1)), (100, (1, 0))], [10, 5], on_exhausted="repeat").length < 25
    assert plan([(0, (1, 0)), (6, (1, 1))], [10, 5], on_exhausted="repeat").length == pytest.approx(16, abs=3)


def test_after_one_runs_out_the_others_share_its_slots():
    of = plan([2, 1, 1], [1000, None, None])
    rows = placed(of, 2000, 2000 + 4 * MIXING_BLOCK)[:, 0]
    assert not (rows == 0).any()
    assert abs(int((rows == 1).sum()) - 2 * MIXING_BLOCK) <= 3
    assert of.length is None


def test_a_source_without_weight_gives_no_length():
    assert plan([1, 0], [10, None]).length == 10
    assert plan([1, 0], [None, 10]).length is None
    assert plan([1, 0], [10, 10]).length == 10


def test_a_stream_ends_within_a_segment_though_a_later_one_has_more():
    assert plan([(0, (1, 0)), (100, (0, 1))], [50, None]).length == 50
    assert plan([(0, (1, 0)), (50, (0, 1))], [50, None]).length is None
    assert plan([(0, (1, 0)), (50, (0, 1))], [50, 7]).length == 57
    stopped = plan([(0, (1, 1)), (10, (1, 1))], [50, 20], on_exhausted="stop")
    assert stopped.samples_before(stopped.length)[1] == 20
    assert plan([(0, (1, 1)), (10, (1, 1))], [None, None], on_exhausted="stop").length is None
    assert plan([(0, (1, 1)), (100, (1, 0))], [None, 20], on_exhausted="stop").length == pytest.approx(40, abs=2)


def test_a_thousand_sources_that_end_are_served_to_the_last_sample():
    chance = random.Random(5)
    caps = [chance.randint(1, 40) for _ in range(1000)]
    of = plan([chance.randint(0, 50) or 1 for _ in range(1000)], caps)
    assert of.length == sum(caps)
    rows = placed(of, 0, of.length)
    assert np.bincount(rows[:, 0], minlength=1000).tolist() == caps
    assert of.samples_before(of.length) == caps


def test_the_ends_are_where_the_others_take_over():
    of = plan([1, 1, 2], [10, None, 10_000])
    small, never, big = of.ends()
    assert never is None
    assert abs(small - 40) <= 12
    assert of.samples_before(small)[0] == 10
    assert of.samples_before(big)[2] == 10_000
    rows = placed(of, 0, big + 5000)[:, 0]
    assert not (rows[small:] == 0).any()
    assert not (rows[big:] == 2).any()
    assert plan([1, 1]).ends() == [None, None]
    assert plan([1, 1], [3, 3]).ends() == [6, 6]
    assert plan([(0, (1, 0)), (50, (0, 1))], [50, 7]).ends() == [50, 57]
