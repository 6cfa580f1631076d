"""The plan of a stream: exact lengths, any cut, any ranks, and changes of the mix that lose and repeat nothing."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.order.small_plans import CHANGES, placed, plan, ranks_are_whole

from choline_data.errors import OutOfRangeError
from choline_data.order.interleave import MIXING_BLOCK


def test_each_source_comes_in_its_own_order_without_gaps():
    assert ranks_are_whole(placed(plan([5, 3, 0, 2]), 0, 20_000))


def test_any_cut_goes_on_as_the_uncut_stream():
    golden = placed(plan([2, 1], [100, 150]), 0, 250)
    for start in range(251):
        for stop in (start, min(start + 1, 250), min(start + 97, 250), 250):
            assert np.array_equal(placed(plan([2, 1], [100, 150]), start, stop), golden[start:stop])


@given(st.lists(st.integers(0, 3 * MIXING_BLOCK), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_a_resume_of_a_resume_loses_nothing(cuts):
    golden = placed(plan([7, 2, 1]), 0, 3 * MIXING_BLOCK)
    ends = [0, *sorted(cuts), 3 * MIXING_BLOCK]
    joined = [placed(plan([7, 2, 1]), a, b) for a, b in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(joined), golden)


def of_rank(of, steps, world, batch, rank):
    """A rank's positions of these global steps: its contiguous part of each."""
    per_step = world * batch
    return [placed(of, s * per_step + rank * batch, s * per_step + (rank + 1) * batch) for s in steps]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_ranks_and_workers_part_the_stream_without_a_rest(workers):
    for world in range(1, 17):
        batch, steps = 3, 6
        golden = placed(plan([2, 1]), 0, world * batch * steps)
        parts = [
            part
            for rank in range(world)
            for worker in range(workers)
            for part in of_rank(plan([2, 1]), range(worker, steps, workers), world, batch, rank)
        ]
        got = np.concatenate(parts)
        assert len(got) == len(golden)
        assert Counter(map(tuple, got.tolist())) == Counter(map(tuple, golden.tolist()))


def test_global_batches_do_not_depend_on_the_world_size():
    golden = placed(plan([2, 1]), 0, 24 * 9)
    met = []
    for step, world in enumerate([1, 1, 4, 8, 2, 12, 1, 24, 3]):  # w1 -> w2 -> w1, the global batch of 24 kept
        met += [part for rank in range(world) for part in of_rank(plan([2, 1]), [step], world, 24 // world, rank)]
    assert np.array_equal(np.concatenate(met), golden)


@pytest.mark.parametrize("count", [2, 8, 100, 1000])
@pytest.mark.parametrize("near", [0, 10**12])
def test_the_dealt_stream_keeps_the_quota_at_every_block_end(count, near):
    weights = [random.Random(count + place).randint(1, 10**6) for place in range(count)]
    of, total = plan(weights), sum(weights)
    first = near // MIXING_BLOCK * MIXING_BLOCK
    met = np.array(of.samples_before(first))
    for block in range(1, 6):
        end = first + block * MIXING_BLOCK
        met += np.bincount(placed(of, end - MIXING_BLOCK, end)[:, 0], minlength=count)
        ideal = np.array([float(Fraction(end * weight, total)) for weight in weights])
        assert np.abs(met - ideal).max() <= 3
        assert met.tolist() == of.samples_before(end)


@pytest.mark.parametrize("weights", [[1, 1], [9, 1], [7, 2, 1], [1] * 100, [1000, *[1] * 20]])
def test_inside_a_block_a_prefix_strays_as_a_random_draw_without_replacement_does(weights):
    # Stated bound: 3 (the quota's) + 5 standard deviations of a draw of k from the block's 4,096.
    total = sum(weights)
    rows = placed(plan(weights), 0, 8 * MIXING_BLOCK)[:, 0]
    k = np.arange(1, len(rows) + 1)
    inside = k % MIXING_BLOCK
    for source, weight in enumerate(weights):
        share = weight / total
        spread = np.sqrt(inside * (1 - inside / MIXING_BLOCK) * share * (1 - share))
        assert (np.abs(np.cumsum(rows == source) - k * share) <= 3 + 5 * spread).all()


@given(st.integers(0, 5 * MIXING_BLOCK))
@settings(deadline=None, max_examples=40)
def test_served_counts_what_stands_before_any_position(position):
    of = plan([5, 0, 3], [3000, None, None])
    rows = placed(plan([5, 0, 3], [3000, None, None]), 0, position)
    assert of.samples_before(position) == np.bincount(rows[:, 0], minlength=3).tolist()


def test_what_is_served_before_each_position_near_the_ends_of_phases():
    segments = [(0, (2, 1, 1)), (18, (1, 5, 0)), (25, (1, 1, 1))]
    rows = placed(plan(segments, [10, 20, None]), 0, 120)[:, 0]
    of = plan(segments, [10, 20, None])
    for position in range(121):
        assert of.samples_before(position) == np.bincount(rows[:position], minlength=3).tolist()


@given(CHANGES, st.lists(st.one_of(st.none(), st.integers(1, 5000)), min_size=3, max_size=3))
@settings(deadline=None, max_examples=60)
def test_a_mix_change_loses_and_repeats_nothing_and_leaves_the_past_alone(changes, caps):
    segments = [(0, (4, 2, 1))]
    for step, weights in changes:
        segments.append((segments[-1][0] + step, tuple(weights)))
    assume(segments[-1][0] < 30_000)
    of = plan(segments, caps)
    end = min(segments[-1][0] + 5000, of.length if of.length is not None else 1 << 60)
    whole = placed(of, 0, end)
    assert len(whole) == end
    assert ranks_are_whole(whole)
    for source, cap in enumerate(caps):
        assert cap is None or int((whole[:, 0] == source).sum()) <= cap
    for number in range(1, len(segments)):
        before = plan(segments[:number], caps)
        until = min(segments[number][0], end)
        assert np.array_equal(placed(before, 0, until), whole[:until])


def test_a_mix_change_in_the_middle_of_a_block_keeps_its_weights_from_there():
    for start in (1, 100, 4095, 4096, 4097, 10_000):
        of = plan([(0, (1, 1)), (start, (9, 1))])
        rows = placed(of, start, start + 10 * MIXING_BLOCK)[:, 0]
        for block in range(1, 11):
            got = int((rows[: block * MIXING_BLOCK] == 0).sum())
            assert abs(got - block * MIXING_BLOCK * 0.9) <= 3


def test_a_source_that_pauses_goes_on_where_it_stood():
    rows = placed(plan([(0, (1, 1)), (5000, (1, 0)), (9000, (1, 1))]), 0, 15_000)
    assert not (rows[5000:9000, 0] == 1).any()
    assert ranks_are_whole(rows)


def test_the_order_of_a_source_does_not_depend_on_its_neighbours():
    alone = placed(plan([1]), 0, 500)
    among = placed(plan([3, 1, 1]), 0, 5000)
    for source in range(3):
        mine = among[among[:, 0] == source, 1]
        assert mine.tolist() == list(range(len(mine)))
    assert alone[:, 1].tolist() == list(range(500))


def test_only_positions_of_the_stream_are_placed():
    of = plan([1, 1], [5, 5])
    assert placed(of, 10, 10).shape == (0, 2)
    for start, stop in ((-1, 3), (0, 11), (10, 11)):
        with pytest.raises(OutOfRangeError, match="10 positions"):
            placed(of, start, stop)
    with pytest.raises(OutOfRangeError, match="no end"):
        placed(plan([1]), -1, 1)
    for beyond in (11, 12):
        with pytest.raises(OutOfRangeError):
            of.samples_before(beyond)
    assert plan([1], [1]).samples_before(1) == [1]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(2, 1000))
@settings(deadline=None, max_examples=20)
def test_only_ratios_of_weights_count(weights, factor):
    caps = [1000] * len(weights)
    scaled = [weight * factor for weight in weights]
    assert np.array_equal(placed(plan(weights, caps), 0, 900), placed(plan(scaled, caps), 0, 900))


def test_seeds_give_other_interleavings():
    assert not np.array_equal(placed(plan([1, 1]), 0, 1000), placed(plan([1, 1], seed=4), 0, 1000))


def test_messages_say_how_long_the_stream_is():
    for of, start, stop, says in (
        (plan([1, 1], [5, 5]), 0, 11, "Positions 0 to 11 are not all in the stream, which has 10 positions."),
        (plan([1]), -1, 3, "Positions -1 to 3 are not all in the stream, which has no end."),
    ):
        with pytest.raises(OutOfRangeError) as caught:
            placed(of, start, stop)
        assert caught.value.message == says
    with pytest.raises(OutOfRangeError) as caught:
        plan([1, 1], [5, 5]).samples_before(12)
    assert caught.value.message == "Position 11 is not in the stream, which has 10 positions."


def test_pieces_follow_one_another_and_lie_in_one_block_each():
    pieces = list(plan([(0, (2, 1)), (5000, (1, 2))]).place(100, 14_000))
    at = 100
    for piece in pieces:
        assert piece.start == at
        assert len(piece.source) == len(piece.rank) <= MIXING_BLOCK
        at += len(piece.source)
    assert at == 14_000
    assert [piece.start for piece in pieces] == [100, 4096, 5000, 9096, 13_192]
