"""Batches of one source: the plan's arithmetic, counted in runs of positions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import OutOfRangeError
from choline_data.order import Plan, RunPlan
from choline_data.order.interleave import MIXING_BLOCK


def runs(weights, caps=None, size=8, **options):
    segments = weights if isinstance(weights[0], tuple) else [(0, weights)]
    return RunPlan(size, segments, caps or [None] * len(segments[0][1]), **{"seed": 3, **options})


def placed(of, start, stop):
    """The (source, rank) of positions start … stop-1, as one array of two columns."""
    pieces = list(of.place(start, stop))
    if not pieces:
        return np.empty((0, 2), dtype=np.int64)
    source = np.concatenate([p.source.astype(np.int64) for p in pieces])
    return np.column_stack([source, np.concatenate([p.rank for p in pieces])])


@pytest.mark.parametrize("size", [1, 2, 7, 256])
def test_every_run_has_one_source_and_its_next_samples(size):
    rows = placed(runs([5, 3, 0, 2], size=size), 0, 600 * size)
    source, rank = rows[:, 0].reshape(-1, size), rows[:, 1].reshape(-1, size)
    assert (source == source[:, :1]).all()
    assert (rank == rank[:, :1] + np.arange(size)).all()
    for number in range(4):
        mine = rows[rows[:, 0] == number, 1]
        assert mine.tolist() == list(range(len(mine)))


@pytest.mark.parametrize("start", [0, 5, 12, 8 * MIXING_BLOCK - 3])
def test_pieces_say_where_they_begin_and_follow_one_another(start):
    at = start
    for piece in runs([5, 3]).place(start, start + 9 * MIXING_BLOCK):
        assert piece.start == at
        assert len(piece.source) == len(piece.rank)
        at += len(piece.source)
    assert at == start + 9 * MIXING_BLOCK


def test_what_was_served_counts_part_of_a_run_at_the_end_of_a_mixing_block_too():
    of, last = runs([5, 3], size=2), 2 * MIXING_BLOCK - 1
    counts = np.bincount(placed(of, 0, last)[:, 0], minlength=2)
    assert of.samples_before(last) == counts.tolist()


def test_runs_are_dealt_as_samples_are():
    got = placed(runs([5, 3, 2], size=16), 0, 16 * 500)[::16, 0]
    plain = placed(Plan([(0, [5, 3, 2])], [None] * 3, seed=3), 0, 500)[:, 0]
    assert np.array_equal(got, plain)


def test_shares_hold_within_three_runs_at_every_end_of_4096_runs():
    weights, size = [70, 20, 7, 3], 4
    of = runs(weights, size=size)
    for block in range(1, 5):
        end = block * MIXING_BLOCK * size
        for got, weight in zip(of.samples_before(end), weights, strict=True):
            assert abs(got - Fraction(end * weight, 100)) <= 3 * size


@given(st.integers(0, 700), st.integers(0, 700))
def test_any_cut_goes_on_as_the_uncut_stream(one, other):
    start, stop = sorted((one, other))
    golden = placed(runs([2, 1], [400, 300], size=12), 0, 684)
    stop, start = min(stop, 684), min(start, 684)
    assert np.array_equal(placed(runs([2, 1], [400, 300], size=12), start, stop), golden[start:stop])


@given(st.integers(0, 684))
def test_served_counts_what_stands_before_any_position(position):
    of = runs([2, 1], [400, 300], size=12)
    assert of.samples_before(position) == np.bincount(placed(of, 0, position)[:, 0], minlength=2).tolist()


def test_what_a_source_has_left_beyond_whole_runs_is_not_served():
    of = runs([1, 1], [20, 17], size=8)
    assert of.length == 32
    assert of.samples_before(32) == [16, 16]
    with pytest.raises(OutOfRangeError, match="Positions 0 to 33 are not all in the stream, which has 32 positions"):
        placed(of, 0, 33)
    with pytest.raises(OutOfRangeError, match="no end"):
        placed(runs([1]), -1, 2)
    assert placed(of, 32, 32).shape == (0, 2)


def test_a_mix_change_loses_and_repeats_nothing_and_leaves_the_past_alone():
    before = placed(runs([4, 1]), 0, 400)
    after = placed(runs([(0, (4, 1)), (80, (1, 4)), (240, (0, 1))]), 0, 400)
    assert np.array_equal(after[:80], before[:80])
    assert not (after[240:, 0] == 0).any()
    for number in range(2):
        mine = after[after[:, 0] == number, 1]
        assert mine.tolist() == list(range(len(mine)))


def test_runs_begin_where_segments_do():
    for size, start in ((0, 16), (-1, 16), (8, 12)):
        with pytest.raises(ValueError, match="must begin where a run begins"):
            runs([(0, (1, 1)), (start, (1, 0))], size=size)


def test_where_sources_end_is_told_in_positions():
    of = runs([1, 1, 2], [80, None, 8000], size=8)
    small, never, big = of.ends()
    assert never is None
    assert of.samples_before(small)[0] == 80
    assert of.samples_before(big)[2] == 8000
    assert runs([1, 1], [80, None], on_exhausted="error").missing() == [0]
    assert runs([1, 1], [80, 80], on_exhausted="error").missing() == []


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=40), st.sampled_from([2, 8, 100]))
def test_positions_far_apart_are_dealt_as_the_whole_stream_is(asked, size):
    whole = placed(runs([5, 3, 2], size=size), 0, 20_001)
    positions = np.unique(asked)
    source, rank = runs([5, 3, 2], size=size).at(positions)
    assert np.array_equal(np.column_stack([source, rank]), whole[positions])


def test_a_position_outside_of_the_stream_is_refused():
    for positions in ([-1, 4], [4, 80]):
        with pytest.raises(OutOfRangeError, match="80 positions"):
            runs([1, 1], [40, 40]).at(np.array(positions))
