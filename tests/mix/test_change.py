"""A mix that changes to another one in steps: exact shares, equal steps, and whole mixing blocks if there is room."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import InvalidOptionError
from choline_data.mix.change import ramp
from choline_data.order import Plan
from choline_data.order.interleave import MIXING_BLOCK

WEIGHTS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1000), min_size=1).filter(lambda w: any(w.values()))


def share(weights, name):
    return Fraction(weights.get(name, 0), sum(weights.values()))


@given(WEIGHTS, WEIGHTS, st.integers(0, 10**9), st.integers(1, 10**7), st.integers(2, 40), st.sampled_from([1, 8, 100]))
def test_the_first_step_is_at_the_start_and_the_last_is_the_mix_at_the_end(old, new, start, length, steps, grain):
    start, stop = start * grain, start * grain + max(length, steps * grain)
    found = ramp(old, new, start, stop, steps, grain)
    positions = [position for position, _ in found]
    assert len(found) == steps
    assert positions[0] == start
    assert positions[-1] == stop // grain * grain
    assert positions == sorted(set(positions))
    assert not any(position % grain for position in positions)
    for number, (_, weights) in enumerate(found, 1):
        for name in {*old, *new}:
            assert share(weights, name) == share(old, name) + (share(new, name) - share(old, name)) * number / steps


def test_long_steps_are_whole_mixing_blocks_so_that_shares_are_exact_at_their_ends():
    found = ramp({"a": 1}, {"b": 1}, 1000, 101_000, 11)
    positions = [position for position, _ in found]
    assert [(position - 1000) % MIXING_BLOCK for position in positions[:-1]] == [0] * 10
    assert positions[-1] == 101_000
    segments = [(0, [1, 0]), *((p, [w["a"], w["b"]]) for p, w in found)]
    plan = Plan(segments, [None, None], seed=0)
    for (start, weights), (stop, _) in itertools.pairwise(segments[1:-1]):
        before, after = plan.samples_before(start), plan.samples_before(stop)
        assert abs((after[0] - before[0]) * sum(weights) - (stop - start) * weights[0]) <= 3 * sum(weights)


@pytest.mark.parametrize(("stop", "steps"), [(100, 1), (100, 0), (99, 2), (104, 6), (100, 2), ("200", 2), (200, "2")])
def test_steps_that_have_no_room_are_refused(stop, steps):
    with pytest.raises(InvalidOptionError, match="can't change in"):
        ramp({"a": 1}, {"a": 1, "b": 1}, 100, stop, steps)
