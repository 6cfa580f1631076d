"""Lanes: every position belongs to exactly one reader, and a server can be asked for each lane."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.order.lanes import Lane

STARTS = st.integers(0, 5000)
SIZES = st.integers(1, 9)


@st.composite
def lanes(draw):
    """A lane of any kind, as a client reads it."""
    workers, world = draw(SIZES), draw(SIZES)
    place = {"rank": draw(st.integers(0, world - 1)), "world": world}
    place |= {"worker": draw(st.integers(0, workers - 1)), "workers": workers}
    if draw(st.booleans()):
        return Lane.of(draw(STARTS), batch=draw(SIZES), **place)
    return Lane.dealt(draw(STARTS), group=draw(SIZES), **place)


@pytest.mark.parametrize("start", [0, 1, 77])
def test_the_readers_of_a_stream_part_it_without_a_rest(start):
    for world, workers, size in itertools.product((1, 2, 3), (1, 2, 4), (1, 3, 8)):
        places = [
            {"rank": rank, "world": world, "worker": worker, "workers": workers}
            for rank in range(world)
            for worker in range(workers)
        ]
        for readers in (
            [Lane.of(start, batch=size, **place) for place in places],
            [Lane.dealt(start, group=size, **place) for place in places],
        ):
            count = 5 * size
            read = np.concatenate([lane.positions(0, count) for lane in readers])
            assert sorted(read.tolist()) == list(range(start, start + count * len(readers)))


def test_ranks_by_hand():
    assert Lane.of(100, rank=1, world=2, batch=3).positions(0, 8).tolist() == [103, 104, 105, 109, 110, 111, 115, 116]
    second = Lane.of(0, rank=0, world=2, batch=2, worker=1, workers=2)
    assert second.positions(0, 5).tolist() == [4, 5, 12, 13, 20]
    single = Lane.dealt(0, rank=1, world=2, group=3, worker=1, workers=2)
    assert single.positions(0, 5).tolist() == [7, 9, 11, 19, 21]
    assert Lane.dealt(5, rank=1, world=2, group=3, worker=0, workers=1) == Lane(6, 1, 2)
    assert Lane(4).positions(2, 3).tolist() == [6, 7, 8]
    assert Lane(4).positions(0, 0).dtype == np.int64


@given(lanes(), st.integers(0, 400))
def test_the_arithmetic_of_one_sample_is_that_of_many(lane, index):
    positions = lane.positions(0, 401)
    assert lane.position(index) == positions[index]
    assert lane.positions(index, 401 - index).tolist() == positions[index:].tolist()
    assert lane.begin(index) == positions[index - index % lane.block]
    for end in (int(positions[index]), int(positions[index]) + 1, lane.first, 0):
        assert lane.below(end) == int((positions < end).sum())


@given(lanes())
def test_a_lane_holds_its_positions_and_no_other(lane):
    positions = lane.positions(0, 200)
    every = np.arange(max(lane.first - 50, 0), int(positions[-1]) + 1)
    assert every[lane.holds(every)].tolist() == positions.tolist()


@given(lanes())
def test_a_server_can_be_asked_for_each_lane(lane):
    wider = lane.wider()
    assert wider.holds(lane.positions(0, 200)).all()
    assert wider.block == 1 or wider.step == 1
    rank, world, batch, base = wider.as_rank()
    asked = Lane.of(base, rank=rank, world=world, batch=batch)
    assert 0 <= rank < world and 0 <= asked.first < wider.first + wider.period
    first = asked.below(wider.first)
    assert asked.positions(first, 200).tolist() == wider.positions(0, 200).tolist()
    assert base == 0 or wider.first % wider.block
    if lane.block == 1 or lane.step == 1:
        assert wider is lane


@given(SIZES, SIZES, SIZES, STARTS)
def test_a_wider_lane_is_the_smaller_of_the_two_that_can_be_asked_for(world, workers, group, start):
    lane = Lane.dealt(start, rank=world - 1, world=world, group=group, worker=workers - 1, workers=workers)
    wider = lane.wider()
    span = 60 * lane.period
    count = wider.below(wider.first + span)
    assert count <= min(world, workers) * lane.below(lane.first + span)
