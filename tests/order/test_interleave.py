"""Interleaving: each source gets its quota of a mixing block, in its own order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from choline_data.order.interleave import block_key, dealt, dealt_at


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), st.integers(0, (1 << 64) - 1))
def test_a_deal_gives_each_source_its_quota_in_its_own_order(quota, key):
    source, nth = dealt(np.array(quota), key)
    assert np.bincount(source, minlength=len(quota)).tolist() == quota
    for number, count in enumerate(quota):
        assert nth[source == number].tolist() == list(range(count))


def test_a_dealt_slot_takes_ten_bytes():
    source, nth = dealt(np.array([1, 2]), 7)
    assert (source.dtype, nth.dtype) == (np.uint16, np.int64)


def test_a_deal_spreads_a_source_over_the_block():
    source, _ = dealt(np.array([2048, 1024, 1024]), block_key(0, 0, 0))
    for part in np.split(source, 8):
        assert np.abs(np.bincount(part, minlength=3) - [256, 128, 128]).max() < 50


def test_deals_differ_by_seed_phase_and_block():
    keys = {block_key(seed, phase, block) for seed in (0, 1) for phase in (0, 4096) for block in (0, 1)}
    assert len(keys) == 8


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), st.integers(0, (1 << 64) - 1), st.data())
def test_some_slots_are_dealt_as_in_the_whole_block(quota, key, data):
    source, nth = dealt(np.array(quota), key)
    slots = np.unique(data.draw(st.lists(st.integers(0, sum(quota) - 1), min_size=1, max_size=20)))
    its_source, its_nth = dealt_at(np.array(quota), key, slots)
    assert its_source.tolist() == source[slots].tolist() and its_nth.tolist() == nth[slots].tolist()
    assert (its_source.dtype, its_nth.dtype) == (np.uint16, np.int64)
