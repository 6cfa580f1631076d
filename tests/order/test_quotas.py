"""Quotas: near their ideal, never falling, exact; the same from lists and from arrays."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.order.cost import calls

from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.quotas import ENDLESS, FEW, MANY, Quotas
from choline_data.order.trees import MOST_SLOTS, MOST_WEIGHT, ArrayTree, ListTree

WEIGHTS = st.lists(
    st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 1 << 60), st.sampled_from([1, 1 << 40])),
    min_size=1,
    max_size=24,
).filter(any)


def error(weights, slots):
    """The greatest distance of a quota from its ideal."""
    total = sum(weights)
    return max(
        abs(Fraction(slots * w, total) - q) for w, q in zip(weights, Quotas(weights).after(slots).tolist(), strict=True)
    )


def families(count):
    chance = random.Random(count)
    yield [1] * count
    yield [10**6] + [1] * (count - 1)
    yield [1] * (count - 1) + [10**6]
    yield [10**9 // (place + 1) for place in range(count)]
    yield [2 ** min(place, 50) for place in range(count)]
    yield [int(1.618 ** min(place, 80)) + 1 for place in range(count)]
    yield [chance.randint(0, 1000) for _ in range(count)]
    yield [int(chance.lognormvariate(10, 3)) + 1 for _ in range(count)]


@pytest.mark.parametrize("count", [2, 8, 100, 1000])
@pytest.mark.parametrize("near", [0, 10**12 // MIXING_BLOCK])
def test_at_every_block_end_each_source_is_within_3_of_its_ideal(count, near):
    for weights in families(count):
        total = sum(weights)
        quotas = Quotas(weights)
        for block in range(near, near + (8 if count == 1000 else 40)):
            slots = block * MIXING_BLOCK
            for weight, quota in zip(weights, quotas.after(slots).tolist(), strict=True):
                assert abs(slots * weight - quota * total) <= 3 * total


@given(WEIGHTS, st.integers(0, 10**13))
def test_a_quota_is_within_4_of_its_ideal_after_any_number_of_slots(weights, slots):
    assert error(weights, slots) < 4


def test_the_worst_ladder_of_weights_stays_within_3():
    # Ratios near the golden one make the rounding of many levels add up; this ladder has the largest error found.
    ladder = [111, 162, 262, 466, 686, 999, 1795, 3194, 4698, 6840, 12297, 19896, 32192, 57295]
    assert 2 < max(error(ladder, slots) for slots in range(1000)) < 2.62


def test_a_ladder_with_a_heavier_end_is_more_than_3_from_its_ideal_and_less_than_4():
    # At every level the light child loses almost a whole sample, at the end of a mixing block (slot 40,960).
    ladder = [
        220197873704285436, 136425531744864684, 83969366614079512, 52048017563850025, 32005776198268357,
        19873356488229418, 12174629708907181, 7614271872393620, 4560481203526139, 3039380146447569,
        1522010146933509, 1515028452788959, 13772984474508, 1501255474374564,
    ]  # fmt: skip
    assert 3.3 < error(ladder, 10 * MIXING_BLOCK) < 4


@given(WEIGHTS, st.integers(0, 10**12))
def test_one_more_slot_goes_to_exactly_one_source(weights, slots):
    quotas = Quotas(weights)
    steps = (quotas.after(slots + 1) - quotas.after(slots)).tolist()
    assert sorted(steps) == [0] * (len(weights) - 1) + [1]
    assert not any(step for step, weight in zip(steps, weights, strict=True) if not weight)


@given(WEIGHTS, st.data())
def test_the_most_slots_within_what_is_left_are_the_last_that_every_source_can_fill(weights, data):
    left = data.draw(
        st.lists(st.one_of(st.integers(0, 10**6), st.just(ENDLESS)), min_size=len(weights), max_size=len(weights))
    )
    quotas, rest = Quotas(weights), np.array(left)
    slots = quotas.slots_within(rest)
    weighted = np.array([weight > 0 for weight in weights])
    if slots is None:
        assert (rest[weighted] == ENDLESS).all()
    elif slots + 1 < ENDLESS:
        assert (quotas.after(slots)[weighted] <= rest[weighted]).all()
        assert (quotas.after(slots + 1)[weighted] > rest[weighted]).any()


@given(WEIGHTS, st.data())
def test_the_fewest_slots_through_what_is_left_are_the_first_that_give_each_source_its_number(weights, data):
    rest = np.array(data.draw(st.lists(st.integers(-5, 10**6), min_size=len(weights), max_size=len(weights))))
    quotas = Quotas(weights)
    slots = quotas.slots_through(rest)
    weighted = np.array([weight > 0 for weight in weights])
    if not (rest[weighted] > 0).any():
        assert slots == 0
    elif slots < ENDLESS:
        assert (quotas.after(slots)[weighted] >= rest[weighted]).all()
        assert (quotas.after(slots - 1)[weighted] < rest[weighted]).any()
    rest[weights.index(max(weights))] = ENDLESS
    assert quotas.slots_through(rest) is None


def test_the_slots_for_what_is_left_are_those_of_a_search_through_all_slots():
    chance = random.Random(3)
    for _ in range(100):
        weights = [chance.choice([1, 1, 2, 3, 40]) for _ in range(chance.randint(1, 5))]
        left = [chance.randint(1, 4) * chance.choice([1, weight]) for weight in weights]
        quotas = Quotas(weights)
        most = max((few + 3) * sum(weights) // weight for few, weight in zip(left, weights, strict=True))
        every = quotas.after_each(np.arange(most + 1))
        within = np.flatnonzero((every <= left).all(axis=1))
        through = np.flatnonzero((every >= left).all(axis=1))
        assert quotas.slots_within(np.array(left)) == within[-1]
        assert quotas.slots_through(np.array(left)) == through[0]
    for left in ([0, 0, 0], [0, -5, -9], [-7, -7, -7]):
        assert Quotas([3, 1, 1]).slots_through(np.array(left)) == 0


def test_what_sources_without_weight_have_left_does_not_count():
    assert Quotas([1, 0]).slots_within(np.array([7, 0])) == 7
    assert Quotas([0, 1]).slots_within(np.array([7, ENDLESS])) is None
    assert Quotas([1, 0]).slots_through(np.array([7, ENDLESS])) == 7


@given(WEIGHTS, st.integers(2, 10**6), st.integers(0, 10**9))
def test_only_the_ratios_of_weights_count(weights, factor, slots):
    scaled = Quotas([weight * factor for weight in weights])
    assert Quotas(weights).after(slots).tolist() == scaled.after(slots).tolist()


def test_small_mixes_by_hand():
    for weights, slots, quota in (
        ([7, 3], 10, [7, 3]),
        ([7, 3], 1, [1, 0]),
        ([0, 5, 0], 9, [0, 9, 0]),
        ([1], 0, [0]),
        ([1, 1, 2], 8, [2, 2, 4]),
    ):
        assert Quotas(weights).after(slots).tolist() == quota
        assert Quotas(weights).after_each(np.array([slots, 0])).tolist() == [quota, [0] * len(weights)]


def test_the_only_source_with_a_weight_is_known():
    assert Quotas([0, 5, 0]).only == 1
    assert Quotas([1, 0, 1]).only is None


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [1, -1], [-1, 3]])
def test_weights_that_share_nothing_are_refused(weights):
    with pytest.raises(ValueError, match=r"^weights must not be negative, and not all zero$"):
        Quotas(weights)


def many(count, kind, chance):
    """Weights of many sources."""
    return {
        "equal": lambda: [1] * count,
        "wide": lambda: [int(chance.lognormvariate(10, 3)) + 1 for _ in range(count)],
        "few values": lambda: [chance.choice([1, 2, 3, 4, 6, 1000]) for _ in range(count)],
        "large": lambda: [chance.randint(1, (MOST_WEIGHT - 1) // count) for _ in range(count)],
        "ladder": lambda: [2 ** (place % 40) for place in range(count)],
    }[kind]()


KINDS = ["equal", "wide", "few values", "large", "ladder"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 5, 17, 64, 500])
def test_a_tree_in_arrays_is_the_tree_in_lists(count, kind):
    for seed in range(4):
        leaves = sorted(many(count, kind, random.Random(f"{count} {seed}")))
        lists, arrays = ListTree(leaves), ArrayTree(np.array(leaves))
        for name in ("light", "dense", "weight", "both", "parent"):
            assert getattr(arrays, name).tolist() == getattr(lists, name)
        assert arrays.first_leaf == lists.first_leaf == count - 1
        slots = [0, 1, 1000, 4096, 10**6 + seed, 10**12 + seed, MOST_SLOTS - 1]
        for end in (4, len(slots)):  # with only small numbers of slots, products fit in 64 bits
            shares = arrays.after(np.array(slots[:end]))
            assert shares.T.tolist() == [lists.after(each) for each in slots[:end]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_without_some_leaves_is_the_tree_of_the_others(kind):
    chance = random.Random(kind)
    leaves = np.array(sorted(many(200, kind, chance)))
    tree = ArrayTree(leaves)
    while len(leaves) > 1:
        gone = np.array(sorted(chance.sample(range(len(leaves)), min(chance.randint(1, 9), len(leaves) - 1))))
        leaves, tree = np.delete(leaves, gone), tree.without(gone)
        anew = ArrayTree(leaves)
        assert tree.both.tolist() == anew.both.tolist() and tree.weight.tolist() == anew.weight.tolist()
        slots = np.array([0, 12_345, 10**11])
        assert tree.after(slots).tolist() == anew.after(slots).tolist()


def test_a_tree_without_one_of_its_heaviest_leaves_costs_little():
    leaves = np.array([2**place for place in range(40)])
    tree = ArrayTree(leaves)
    without = calls(lambda: tree.without(np.array([38])))
    assert without * 5 < calls(lambda: ArrayTree(np.delete(leaves, 38)))


@pytest.mark.parametrize("kind", [*KINDS, "huge"])
@pytest.mark.parametrize("count", [MANY - 1, MANY, MANY + 1, MANY + 40])
def test_quotas_of_many_sources_are_those_of_the_tree_in_lists(count, kind):
    chance = random.Random(f"{count} {kind}")
    weights = [MOST_WEIGHT + n for n in range(count)] if kind == "huge" else many(count, kind, chance)
    chance.shuffle(weights)
    for source in chance.sample(range(count), 9):
        weights[source] = 0
    weighted = sorted((weight, source) for source, weight in enumerate(weights) if weight)
    lists = ListTree([weight for weight, _ in weighted])
    slots = [0, 4095, 10**9, MOST_SLOTS - 1, MOST_SLOTS, ENDLESS - 1]
    wanted = []
    for each in slots:
        shares = dict(zip([source for _, source in weighted], lists.after(each), strict=True))
        wanted.append([shares.get(source, 0) for source in range(count)])
    quotas = Quotas(weights)
    assert [quotas.after(each).tolist() for each in slots] == wanted
    for end in (3, 4, 6):
        for times in (1, FEW):
            assert quotas.after_each(np.array(slots[:end] * times)).tolist() == wanted[:end] * times


@pytest.mark.parametrize("count", [3, 20, MANY + 20])
def test_quotas_without_some_sources_are_those_of_a_mix_where_these_weigh_nothing(count):
    chance = random.Random(count)
    weights = many(count, "wide", chance)
    quotas, left = Quotas(weights), np.array([chance.randint(1, 10**5) for _ in weights])
    alive = list(range(count))
    while len(alive) > 2:
        gone = chance.sample(alive, min(chance.randint(0, 15), len(alive) - 1))
        quotas = quotas.without(np.array(gone, np.int64))
        alive = [source for source in alive if source not in gone]
        for source in gone:
            weights[source] = 0
        anew = Quotas(weights)
        assert quotas.after(98_765).tolist() == anew.after(98_765).tolist()
        assert sorted(quotas.weighted.tolist()) == alive
        assert quotas.slots_within(left) == anew.slots_within(left)
        assert quotas.slots_through(left) == anew.slots_through(left)
        assert quotas.only == (alive[0] if len(alive) == 1 else None)
    assert quotas.without(np.array([], np.int64)) is quotas
