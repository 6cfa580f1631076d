"""Positions that lie far apart: the same answers as in the whole stream, at a cost that does not depend on what lies between."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from tests.order.cost import calls
from tests.order.small_plans import placed, plan

from choline_data.errors import OutOfRangeError
from choline_data.order.frequent_blocks import OFTEN, FrequentBlocks
from choline_data.order.interleave import MIXING_BLOCK


def test_the_last_position_is_placed_and_numbers_have_few_bytes():
    source, rank = plan([1, 1], [5, 5]).at(np.array([0, 9]))
    assert (source.dtype, rank.dtype) == (np.uint16, np.int64)
    only, its = plan([1], [10]).at(np.array([9]))
    assert (only.dtype, its.dtype, its.tolist()) == (np.uint16, np.int64, [9])
    with pytest.raises(OutOfRangeError, match="Positions 10 to 11"):
        plan([1], [10]).at(np.array([10]))


def test_a_far_position_is_found_without_what_lies_before():
    far = 10**12 + 12345
    wanted = placed(plan([3, 2, 1], [10**13, None, None]), far - 5000, far + 10)[5000:]
    of, near = plan([3, 2, 1], [10**13, None, None]), plan([3, 2, 1], [10**13, None, None])
    placed(near, 0, 1)
    assert calls(lambda: placed(of, far, far + 10)) < 2 * calls(lambda: placed(near, 12345, 12355))
    assert np.array_equal(placed(of, far, far + 10), wanted)


def test_asked_again_the_answer_is_the_same_whatever_was_asked_between():
    of = plan([3, 1], [200_000, None])
    golden = placed(of, 0, 300)
    for block in range(60):
        placed(of, block * MIXING_BLOCK, block * MIXING_BLOCK + 1)
    assert np.array_equal(placed(of, 0, 300), golden)


def test_of_the_last_32_blocks_positions_are_found_again_at_less_cost():
    of = plan([3, 1])

    def cost(block):
        return calls(lambda: placed(of, block * MIXING_BLOCK, block * MIXING_BLOCK + 1))

    first = [cost(block) for block in range(40)][-1]
    again = [cost(block) for block in range(8, 40)]
    assert max(again) * 2 < first
    far = np.arange(8, 40, dtype=np.int64) * MIXING_BLOCK + 5
    assert calls(lambda: of.at(far)) < calls(lambda: plan([3, 1]).at(far))
    assert max(cost(block) for block in range(8, 40)) * 2 < first
    assert cost(7) == first


def test_positions_far_apart_cost_no_more_than_those_that_lie_nearer():
    of, far = plan([3, 1]), np.arange(200, dtype=np.int64) * 10**12
    alone = [of.at(far[n : n + 1]) for n in range(0, 200, 23)]
    source, rank = of.at(far)
    assert [(int(s[0]), int(r[0])) for s, r in alone] == [(source[n], rank[n]) for n in range(0, 200, 23)]
    nearer = far // 10**12 * MIXING_BLOCK * 2
    assert calls(lambda: of.at(far)) < 2 * calls(lambda: plan([3, 1]).at(nearer))
    with pytest.raises(OutOfRangeError):
        plan([1, 1], [5, 5]).at(np.array([3, 10]))


def test_a_few_positions_of_each_of_many_blocks_are_found_together():
    of = plan([3, 1])
    one, many = (np.add.outer(np.arange(blocks) * 2 * MIXING_BLOCK, np.arange(8)).reshape(-1) for blocks in (1, 64))
    assert calls(lambda: of.at(many)) < 8 * calls(lambda: plan([3, 1]).at(one))


def test_the_positions_of_a_single_source_are_its_ranks():
    source, rank = plan([0, 7]).at(np.array([0, 5, 10**12]))
    assert source.tolist() == [1, 1, 1] and rank.tolist() == [0, 5, 10**12]
    of = plan([(0, (1, 1)), (6000, (0, 1))])
    source, rank = of.at(np.array([6000, 6001, 99_999]))
    assert source.tolist() == [1, 1, 1]
    assert (rank - rank[0]).tolist() == [0, 1, 93_999] and rank[0] == of.samples_before(6000)[1]


def test_many_sources_and_many_blocks_take_little_memory():
    of, far = plan([1] * 2000), np.arange(3000, dtype=np.int64) * 10**6
    of.at(far[:300])
    tracemalloc.start()
    try:
        of.at(far)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # the quotas of all blocks would be 48 MB


def test_a_block_that_many_ranks_ask_a_few_slots_of_is_found_at_less_cost_and_with_the_same_answers():
    whole = placed(plan([5, 2, 1]), 0, 64 * MIXING_BLOCK)
    of, costs = plan([5, 2, 1]), []
    for rank in range(64):
        positions = np.add.outer(np.arange(32) * 2 * MIXING_BLOCK, rank * 8 + np.arange(8)).reshape(-1)
        found = []
        costs.append(calls(lambda positions=positions, found=found: found.append(of.at(positions))))
        assert np.array_equal(np.column_stack(found[0]), whole[positions])
    assert max(costs[-20:]) < costs[0]


def test_blocks_that_are_asked_for_often_are_kept_within_a_bound():
    kept = FrequentBlocks(1000)
    blocks = {block: (np.full(10, block, np.uint16), np.arange(10)) for block in range(50)}
    made = []

    def get(block):
        return kept.get((0, 0, block), lambda: made.append(block) or blocks[block])

    for block in range(50):
        assert [get(block) for _ in range(OFTEN - 1)] == [None] * (OFTEN - 1)
        assert get(block) is get(block) is blocks[block]
    assert made == [*range(50)]
    assert get(49) is blocks[49] and get(40) is blocks[40]  # ten blocks are 1,000 bytes
    assert get(39) is None
