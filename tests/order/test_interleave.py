"""Interleaving: each source gets its quota of a mixing block, in its own order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from choline_data.order.few_slots import dealt_at
from choline_data.order.interleave import MIXING_BLOCK, block_keys, dealt


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
    source, _ = dealt(np.array([2048, 1024, 1024]), int(block_keys(0, 0, np.array([0]))[0]))
    for part in np.split(source, 8):
        assert np.abs(np.bincount(part, minlength=3) - [256, 128, 128]).max() < 50


def test_deals_differ_by_seed_phase_and_block():
    keys = [block_keys(seed, phase, np.array([0, 1])).tolist() for seed in (0, 1) for phase in (0, 4096)]
    assert len({key for some in keys for key in some}) == 8


QUOTAS = st.lists(st.integers(0, 4096), min_size=1, max_size=12).filter(any)


@given(st.lists(st.tuples(QUOTAS, st.integers(0, (1 << 64) - 1)), min_size=1, max_size=20), st.data())
def test_some_slots_of_some_blocks_are_dealt_as_in_the_whole_blocks(blocks, data):
    sources = max(len(quota) for quota, _ in blocks)
    quotas = np.array([[*quota, *[0] * (sources - len(quota))] for quota, _ in blocks])
    quotas = quotas * MIXING_BLOCK // np.maximum(quotas.sum(axis=1, keepdims=True), MIXING_BLOCK)
    quotas[quotas.sum(axis=1) == 0, 0] = 1
    block, slots, wanted = [], [], []
    for number, (quota, (_, key)) in enumerate(zip(quotas, blocks, strict=True)):
        last = int(quota.sum()) - 1
        first = data.draw(st.integers(0, last))
        near = st.integers(first, min(first + 40, last))
        asked = np.unique(data.draw(st.lists(near | st.integers(0, last), min_size=1, max_size=20)))
        block.append(np.full(len(asked), number))
        slots.append(asked)
        wanted.append(np.column_stack(dealt(quota, key))[asked])
    keys = np.array([key for _, key in blocks], np.uint64)
    source, nth = dealt_at(quotas, keys, np.concatenate(block), np.concatenate(slots))
    assert np.array_equal(np.column_stack([source, nth]), np.concatenate(wanted))
    assert (source.dtype, nth.dtype) == (np.uint16, np.int64)


def test_slots_whose_hashes_lie_unusually_far_from_their_place_are_dealt_too():
    keys, quota = np.arange(4000, dtype=np.uint64), np.array([2500, 1596])
    source, nth = dealt_at(np.tile(quota, (4000, 1)), keys, np.arange(4000), np.full(4000, 2000))
    wanted = [np.column_stack(dealt(quota, key))[2000] for key in range(4000)]
    assert np.array_equal(np.column_stack([source, nth]), wanted)
