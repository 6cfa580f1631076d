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

from choline_data.errors import OutOfRangeError
from choline_data.order import Plan, interleave, phases
from choline_data.order import plan as plans
from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.quotas import Quotas


def plan(weights, caps=None, **options):
    segments = weights if isinstance(weights[0], tuple) else [(0, weights)]
    return Plan(segments, caps or [None] * len(segments[0][1]), **{"seed": 3, **options})


def placed(of, start, stop):
    """The (source, rank) of positions start … stop-1, as one array of two columns."""
    pieces = list(of.place(start, stop))
    if not pieces:
        return np.empty((0, 2), dtype=np.int64)
    return np.column_stack(
        [
            np.concatenate([p.source.astype(np.int64) for p in pieces]),
            np.concatenate([p.rank for p in pieces]),
        ]
    )


def ranks_are_whole(rows):
    """Whether each source's ranks are 0, 1, 2 … in order: nothing lost, nothing repeated."""
    return all(
        rows[rows[:, 0] == s, 1].tolist() == list(range(int((rows[:, 0] == s).sum()))) for s in np.unique(rows[:, 0])
    )


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
    met = np.array(of.served(first))
    for block in range(1, 6):
        end = first + block * MIXING_BLOCK
        met += np.bincount(placed(of, end - MIXING_BLOCK, end)[:, 0], minlength=count)
        ideal = np.array([float(Fraction(end * weight, total)) for weight in weights])
        assert np.abs(met - ideal).max() <= 3
        assert met.tolist() == of.served(end)


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
    assert of.served(position) == np.bincount(rows[:, 0], minlength=3).tolist()


def test_what_is_served_before_each_position_near_the_ends_of_phases():
    segments = [(0, (2, 1, 1)), (18, (1, 5, 0)), (25, (1, 1, 1))]
    rows = placed(plan(segments, [10, 20, None]), 0, 120)[:, 0]
    of = plan(segments, [10, 20, None])
    for position in range(121):
        assert of.served(position) == np.bincount(rows[:position], minlength=3).tolist()


def test_the_last_position_is_placed_and_numbers_have_few_bytes():
    source, rank = plan([1, 1], [5, 5]).at(np.array([0, 9]))
    assert (source.dtype, rank.dtype) == (np.uint16, np.int64)
    only, its = plan([1], [10]).at(np.array([9]))
    assert (only.dtype, its.dtype, its.tolist()) == (np.uint16, np.int64, [9])
    with pytest.raises(OutOfRangeError, match="Positions 10 to 11"):
        plan([1], [10]).at(np.array([10]))


CHANGES = st.lists(
    st.tuples(st.integers(1, 9000), st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any)),
    max_size=5,
)


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
        out = [n for n, (cap, got) in enumerate(zip(caps, of.served(of.length), strict=True)) if cap == got]
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
    assert stopped.served(stopped.length)[1] == 20
    assert plan([(0, (1, 1)), (10, (1, 1))], [None, None], on_exhausted="stop").length is None
    assert plan([(0, (1, 1)), (100, (1, 0))], [None, 20], on_exhausted="stop").length == pytest.approx(40, abs=2)


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
            of.served(beyond)
    assert plan([1], [1]).served(1) == [1]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(2, 1000))
@settings(deadline=None, max_examples=20)
def test_only_ratios_of_weights_count(weights, factor):
    caps = [1000] * len(weights)
    scaled = [weight * factor for weight in weights]
    assert np.array_equal(placed(plan(weights, caps), 0, 900), placed(plan(scaled, caps), 0, 900))


def test_seeds_give_other_interleavings():
    assert not np.array_equal(placed(plan([1, 1]), 0, 1000), placed(plan([1, 1], seed=4), 0, 1000))


def test_a_thousand_sources_that_end_are_served_to_the_last_sample():
    chance = random.Random(5)
    caps = [chance.randint(1, 40) for _ in range(1000)]
    of = plan([chance.randint(0, 50) or 1 for _ in range(1000)], caps)
    assert of.length == sum(caps)
    rows = placed(of, 0, of.length)
    assert np.bincount(rows[:, 0], minlength=1000).tolist() == caps
    assert of.served(of.length) == caps


class Deals:
    """The blocks that are dealt, as (position of the phase, block, slots); all slots count as None."""

    def __init__(self, monkeypatch):
        self.seen = []
        whole, some = interleave.dealt, interleave.dealt_at
        monkeypatch.setattr(phases, "dealt", lambda quota, key: self.seen.append("whole") or whole(quota, key))
        monkeypatch.setattr(
            plans, "dealt_at", lambda quota, key, slots: self.seen.append(len(slots)) or some(quota, key, slots)
        )


def test_a_far_position_is_found_without_what_lies_before(monkeypatch):
    far = 10**12 + 12345
    wanted = placed(plan([3, 2, 1], [10**13, None, None]), far - 5000, far + 10)[5000:]
    deals = Deals(monkeypatch)
    assert np.array_equal(placed(plan([3, 2, 1], [10**13, None, None]), far, far + 10), wanted)
    assert deals.seen == ["whole"]


def test_asked_again_the_answer_is_the_same_whatever_was_asked_between():
    of = plan([3, 1], [200_000, None])
    golden = placed(of, 0, 300)
    for block in range(60):
        placed(of, block * MIXING_BLOCK, block * MIXING_BLOCK + 1)
    assert np.array_equal(placed(of, 0, 300), golden)


def test_a_block_is_dealt_once_and_the_last_32_are_kept(monkeypatch):
    of, deals = plan([3, 1]), Deals(monkeypatch)
    for block in range(40):
        placed(of, block * MIXING_BLOCK, block * MIXING_BLOCK + 1)
    assert len(deals.seen) == 40
    placed(of, 8 * MIXING_BLOCK, 40 * MIXING_BLOCK)
    of.at(np.arange(8, 40, dtype=np.int64) * MIXING_BLOCK + 5)
    assert len(deals.seen) == 40
    placed(of, 7 * MIXING_BLOCK, 7 * MIXING_BLOCK + 1)
    assert len(deals.seen) == 41


def test_the_ends_are_where_the_others_take_over():
    of = plan([1, 1, 2], [10, None, 10_000])
    small, never, big = of.ends()
    assert never is None
    assert abs(small - 40) <= 12
    assert of.served(small)[0] == 10
    assert of.served(big)[2] == 10_000
    rows = placed(of, 0, big + 5000)[:, 0]
    assert not (rows[small:] == 0).any()
    assert not (rows[big:] == 2).any()
    assert plan([1, 1]).ends() == [None, None]
    assert plan([1, 1], [3, 3]).ends() == [6, 6]
    assert plan([(0, (1, 0)), (50, (0, 1))], [50, 7]).ends() == [50, 57]


def test_messages_say_how_long_the_stream_is():
    for of, start, stop, says in (
        (plan([1, 1], [5, 5]), 0, 11, "Positions 0 to 11 are not all in the stream, which has 10 positions."),
        (plan([1]), -1, 3, "Positions -1 to 3 are not all in the stream, which has no end."),
    ):
        with pytest.raises(OutOfRangeError) as caught:
            placed(of, start, stop)
        assert caught.value.message == says
    with pytest.raises(OutOfRangeError) as caught:
        plan([1, 1], [5, 5]).served(12)
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


@given(CHANGES, st.sampled_from(["renormalize", "repeat", "stop"]), st.data())
@settings(deadline=None, max_examples=60)
def test_positions_far_apart_are_dealt_as_the_whole_stream_is(changes, on_exhausted, data):
    segments = [(0, (4, 2, 1))]
    for step, weights in changes:
        segments.append((segments[-1][0] + step, tuple(weights)))
    assume(segments[-1][0] < 30_000)
    of = plan(segments, [4000, None, 900], on_exhausted=on_exhausted)
    end = min(40_000, of.length if of.length is not None else 40_000)
    whole = placed(of, 0, end)
    asked = np.unique(data.draw(st.lists(st.integers(0, end - 1), min_size=1, max_size=60)))
    near = np.unique(np.minimum(asked[0] + np.arange(50), end - 1))
    for positions in (asked, near, np.unique(np.concatenate([asked, near]))):
        source, rank = plan(segments, [4000, None, 900], on_exhausted=on_exhausted).at(positions)
        assert np.array_equal(np.column_stack([source, rank]), whole[positions])


def test_positions_far_apart_deal_only_the_mixing_blocks_that_hold_them(monkeypatch):
    of, far = plan([3, 1]), np.arange(200, dtype=np.int64) * 10**12
    alone = [of.at(far[n : n + 1]) for n in range(0, 200, 23)]
    deals = Deals(monkeypatch)
    source, rank = of.at(far)
    assert [(int(s[0]), int(r[0])) for s, r in alone] == [(source[n], rank[n]) for n in range(0, 200, 23)]
    assert deals.seen == [1] * 200
    deals.seen.clear()
    of.at(np.arange(32, dtype=np.int64))
    of.at(np.arange(33, dtype=np.int64))
    of.at(np.arange(300, dtype=np.int64))
    assert deals.seen == [32, "whole"]
    with pytest.raises(OutOfRangeError):
        plan([1, 1], [5, 5]).at(np.array([3, 10]))


def test_the_positions_of_a_single_source_are_its_ranks_and_nothing_is_dealt(monkeypatch):
    deals = Deals(monkeypatch)
    source, rank = plan([0, 7]).at(np.array([0, 5, 10**12]))
    assert source.tolist() == [1, 1, 1] and rank.tolist() == [0, 5, 10**12]
    assert deals.seen == []
    of = plan([(0, (1, 1)), (6000, (0, 1))])
    source, rank = of.at(np.array([6000, 6001, 99_999]))
    assert source.tolist() == [1, 1, 1]
    assert (rank - rank[0]).tolist() == [0, 1, 93_999] and rank[0] == of.served(6000)[1]


def test_quotas_of_many_blocks_are_computed_together_within_a_bound(monkeypatch):
    asked = []
    once = Quotas.after_each
    monkeypatch.setattr(Quotas, "after_each", lambda its, slots: asked.append(len(slots)) or once(its, slots))
    plan([1] * 512).at(np.arange(300, dtype=np.int64) * 10**6)
    assert asked == [256, 256, 88]
    asked.clear()
    plan([1] * 3).at(np.arange(300, dtype=np.int64) * 10**6)
    assert asked == [600]
