"""The phases of mixes whose sources run out: the same for any order of requests, at little cost, and for many threads."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc

import numpy as np
import pytest
from tests.order.cost import calls

from choline_data.order import Plan
from choline_data.order.phases import CHECKPOINT, Phases
from choline_data.order.quotas import ENDLESS
from choline_data.process.work import STEP, Work


def ending(count, most=10**6):
    """Weights and caps of sources that run out one after another."""
    chance = random.Random(count)
    weights = [int(chance.lognormvariate(10, 3)) + 1 for _ in range(count)]
    return weights, [chance.randint(1, most) for _ in range(count)]


def at(plan, position):
    ((source, rank),) = [(int(p.source[0]), int(p.rank[0])) for p in plan.place(position, position + 1)]
    return source, rank


def test_positions_are_the_same_in_whatever_order_they_are_asked_for():
    weights, caps = ending(200)
    plan = Plan([(0, weights)], caps, seed=1)
    asked = [n * plan.length // 500 for n in range(500)]
    golden = [at(plan, position) for position in asked]
    served = [plan.samples_before(position) for position in asked]
    for seed in range(2):
        mixed = [*enumerate(asked)]
        random.Random(seed).shuffle(mixed)
        again = plan if seed else Plan([(0, weights)], caps, seed=1)
        assert all(at(again, position) == golden[number] for number, position in mixed)
        assert all(again.samples_before(position) == served[number] for number, position in mixed[:100])
    source, rank = Plan([(0, weights)], caps, seed=1).at(np.array(asked))
    assert [*zip(source.tolist(), rank.tolist(), strict=True)] == golden


def test_segments_and_ends_make_phases_that_follow_one_another():
    chance = random.Random(7)
    segments = [(0, [1] * 40)]
    for _ in range(100):
        segments.append((segments[-1][0] + chance.randint(1, 9000), [chance.randint(0, 9) for _ in range(40)]))
    caps = [chance.choice([None, chance.randint(1, 10**4)]) for _ in range(40)]
    phases = Phases(segments, caps, seed=0)
    end = segments[-1][0] + 10**6
    at, number = 0, 0
    while at < end:
        phase = phases.at(at)
        assert (phase.start, phase.begin.number) == (at, number)
        assert phase.begin.samples_before.tolist() == phases.samples_before(at).tolist()
        assert phases.at(max(at - 1, 0)).begin.number == max(number - 1, 0)
        if phase.end is None:
            break
        at, number = phase.end, number + 1
    assert number > CHECKPOINT
    assert [phases.at(start).start for start, _ in segments] == [start for start, _ in segments]


def test_four_thousand_sources_are_sought_in_little_time_and_memory():
    weights, caps = ending(4000)
    began = time.thread_time()
    plan = Plan([(0, weights)], caps, seed=0)
    at(plan, plan.length // 2)
    assert time.thread_time() - began < 3  # 0.5 s of an idle core; a tree of lists for each phase took 7 s


def test_a_plan_keeps_the_counts_of_few_phases():
    weights, caps = ending(600)
    tracemalloc.start()
    try:
        plan = Plan([(0, weights)], caps, seed=0)
        at(plan, plan.length - 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # each phase alone would be 600 counts and a tree of 600 nodes: 20 KB


def test_positions_that_follow_one_another_cost_little_more_when_their_phases_are_no_longer_kept():
    weights, caps = ending(300)
    plan = Plan([(0, weights)], caps, seed=0)
    steps = np.array(sorted({n * plan.length // 3000 for n in range(3000)}))
    first = calls(lambda: plan.at(steps))
    again = calls(lambda: plan.at(steps))
    assert (
        again < 2 * first
    )  # with the phases since a checkpoint computed for each phase, it would be many times as much


def test_a_request_that_rests_holds_up_no_other():
    weights, caps = ending(50)
    plan = Plan([(0, weights)], [None, *caps[1:]], seed=0)
    resting, go, rested = threading.Event(), threading.Event(), threading.Event()

    def crowded():
        resting.set()
        go.wait(30)
        rested.set()
        return False

    def far():
        with Work({}, crowded).under_way():
            time.sleep(2 * STEP)
            plan.at(np.arange(2000, dtype=np.int64) * 10**7)

    thread = threading.Thread(target=far)
    thread.start()
    assert resting.wait(30)
    assert at(plan, 5) == at(Plan([(0, weights)], [None, *caps[1:]], seed=0), 5)
    plan.samples_before(10**9)
    assert not rested.is_set()
    go.set()
    thread.join()


def test_threads_share_a_plan():
    weights, caps = ending(150, 3000)
    alone = Plan([(0, weights)], caps, seed=2)
    asked = [random.Random(n).sample(range(alone.length), 60) for n in range(4)]
    wanted = [[at(alone, position) for position in some] for some in asked]
    shared = Plan([(0, weights)], caps, seed=2)
    found = [None] * 4

    def ask(number):
        found[number] = [at(shared, position) for position in asked[number]]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_an_end_that_no_position_reaches_counts_as_none():
    for on_exhausted in ("renormalize", "stop", "repeat"):

        def length(caps, weights=(1, 1), on_exhausted=on_exhausted):
            return Plan([(0, weights)], caps, seed=0, on_exhausted=on_exhausted).length

        assert length([ENDLESS - 1], [1]) == ENDLESS - 1
        assert length([ENDLESS], [1]) is length([1 << 70], [1]) is None
        assert length([1 << 61, 1 << 61]) is None
        assert length([1 << 60, 1 << 60]) == 1 << 61
    assert Plan([(0, [1, 1])], [1 << 61, (1 << 61) - 1], seed=0).length == ENDLESS - 1
    far = Plan([(0, [1, 3])], [1 << 70, 1 << 61], seed=0)
    assert far.ends() == [None, pytest.approx((1 << 63) // 3, abs=16)]
    assert abs(far.samples_before(10**15)[0] - 10**15 // 4) < 3000
    assert Plan([(0, [1, 3])], [1 << 61, 1 << 70], seed=0).ends() == [None, None]
