"""The order of writes: readers get equal shares, and clients that do not read take nothing from them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from math import inf
from typing import Any, TypeVar

from choline_data.service.fairness import (
    IDLE,
    OPENED_A_SECOND,
    OPENED_AT_ONCE,
    PATIENCE,
    QUIET,
    FairShare,
    ReaderConnection,
    Turns,
)

SIZE = 1 << 20
T = TypeVar("T")


class OwnTime(asyncio.SelectorEventLoop):
    """A loop whose clock goes on to the next timer at once, so that shares do not depend on the machine."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())
        super()._run_once()


def in_own_time(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=OwnTime) as runner:
        return runner.run(coroutine)


def sent(streams: dict[str, tuple[int, float]], seconds: float) -> Counter[str]:
    """Messages that each stream got through; a stream is the size of its messages and how long a write of it waits.

    Its name is that of its connection, and what comes after a colon.
    """

    async def run() -> Counter[str]:
        turns, count = Turns(2), Counter[str]()

        async def stream(name: str, size: int, wait: float) -> None:
            share = FairShare(turns.connection(name.partition(":")[0]))
            with share.connection.streaming():
                while True:
                    turn = await turns.take(share, size)
                    await asyncio.sleep(wait)
                    turn.done()
                    count[name] += 1

        tasks = [asyncio.ensure_future(stream(name, *about)) for name, about in streams.items()]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return count

    return in_own_time(run())


def test_streams_that_read_have_equal_shares():
    got = sent({f"s{n}": (SIZE, 0.0005) for n in range(20)}, 0.5)
    assert len(got) == 20
    assert min(got.values()) >= 0.8 * max(got.values())


def test_shares_are_of_bytes_not_of_messages():
    got = sent({"small": (SIZE // 8, 0.0005), **{f"big{n}": (SIZE, 0.0005) for n in range(8)}}, 0.5)
    assert got["small"] >= 3 * max(got[f"big{n}"] for n in range(8))


def test_a_connection_with_many_streams_delays_mostly_itself():
    many = {f"many:{n}": (SIZE, 0.0005) for n in range(100)}
    got = sent({"one": (SIZE, 0.0005), **many}, 1)
    assert got["one"] >= 0.3 * got.total()  # its part would be a hundredth if each stream counted alone
    own = [got[name] for name in many]
    assert min(own) >= 0.8 * max(own) - 1


def test_readers_that_do_not_read_take_no_turns_from_one_that_does():
    fast = {"fast": (SIZE, 0.0005)}
    alone = sent(fast, 1)["fast"]
    beside = sent({**fast, **{f"slow{n}": (SIZE, 30.0) for n in range(50)}}, 1)
    assert beside["fast"] >= 0.5 * alone  # 50 first waits of PATIENCE would be half of this second
    assert 50 * PATIENCE / 2 >= 0.5


def test_new_readers_that_delay_each_message_take_no_turns_from_one_that_reads():
    async def run(readers: int) -> int:
        turns, count = Turns(2), 0

        async def slow() -> None:
            share = FairShare(proven=False)  # with messages of 64 KiB, it is not proven for many seconds
            while True:
                turn = await turns.take(share, SIZE // 16)
                await asyncio.sleep(1.0)
                turn.done()

        async def fast() -> None:
            nonlocal count
            share = FairShare()
            while True:
                turn = await turns.take(share, SIZE)
                await asyncio.sleep(0.0005)
                turn.done()
                count += 1

        tasks = [asyncio.ensure_future(slow()) for _ in range(readers)]
        await asyncio.sleep(3)
        tasks.append(asyncio.ensure_future(fast()))
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return count

    assert in_own_time(run(500)) >= 0.9 * in_own_time(run(0))


def test_a_stream_that_is_late_is_slow_for_many_times_as_long():
    async def run() -> tuple[bool, bool, bool]:
        turns, share = Turns(1), FairShare()
        loop = asyncio.get_running_loop()
        turn = await turns.take(share, SIZE)
        await asyncio.sleep(PATIENCE + 3 * IDLE)
        waiting = share.slow(loop.time())
        turn.done()
        return waiting, share.slow(loop.time() + 5 * PATIENCE), share.slow(loop.time() + 60)

    assert in_own_time(run()) == (True, True, False)


def test_a_slow_reader_takes_as_many_bytes_a_second_as_of_its_last_delayed_message():
    async def taken_after(delay: float) -> float:
        turns, share = Turns(1), FairShare()
        turn = await turns.take(share, SIZE)
        await asyncio.sleep(delay)
        turn.done()
        return share.takes(0.25, asyncio.get_running_loop().time())

    assert in_own_time(taken_after(PATIENCE / 2)) == inf
    assert in_own_time(taken_after(PATIENCE + IDLE)) > 4 * SIZE  # a reader that only had to wait for a processor
    assert in_own_time(taken_after(1.0)) == SIZE / 4
    assert in_own_time(taken_after(16.0)) == SIZE / 64


def test_a_stream_that_goes_while_it_waits_leaves_its_turn_to_the_next():
    async def run() -> bool:
        turns = Turns(1)
        held = await turns.take(FairShare(), SIZE)
        waiting = [asyncio.ensure_future(turns.take(FairShare(), SIZE)) for _ in range(3)]
        await asyncio.sleep(0)
        held.done()  # the first of them is granted
        waiting[0].cancel()
        second = await asyncio.wait_for(waiting[1], 1)
        second.done()
        (await asyncio.wait_for(waiting[2], 1)).done()
        return await asyncio.wait_for(turns.take(FairShare(), SIZE), 1) is not None

    assert in_own_time(run())


def test_a_connection_that_asks_for_hundreds_of_streams_opens_them_when_it_has_asked_for_all():
    async def run() -> tuple[list[float], list[float]]:
        loop, connection, opened, wrote = asyncio.get_running_loop(), ReaderConnection(), [], []
        began = loop.time()

        async def stream() -> None:
            await connection.opening()
            opened.append(loop.time() - began)

        async def write() -> None:
            await connection.writing()
            wrote.append(loop.time() - began)

        streams = []
        for number in range(100):  # one request each millisecond
            streams.append(asyncio.ensure_future(stream()))
            if number == 50:
                streams.append(asyncio.ensure_future(write()))
            await asyncio.sleep(0.001)
        await asyncio.gather(*streams)
        return opened, wrote

    opened, wrote = in_own_time(run())
    assert opened[OPENED_AT_ONCE - 1] < 0.01  # a trainer's few streams open at once
    assert min(opened[OPENED_AT_ONCE:]) >= 0.099 + QUIET
    assert wrote[0] >= 0.099 + QUIET
    assert max(opened) <= 0.1 + QUIET + 100 / OPENED_A_SECOND


def test_another_connection_opens_its_stream_at_once():
    async def run() -> float:
        turns = Turns(2)
        connections = [turns.connection(name) for name in ("crowd", "reader")]
        crowd = [asyncio.ensure_future(connections[0].opening()) for _ in range(100)]
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await connections[1].opening()
        await connections[1].writing()
        waited = asyncio.get_running_loop().time() - began
        for stream in crowd:
            stream.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert connections[0].waiting == 0
        return waited

    assert in_own_time(run()) == 0


def test_a_slow_stream_is_not_blamed_for_the_data_that_another_connection_leaves_unread():
    async def run() -> list[bool]:
        turns = Turns(2)
        shares = [FairShare(turns.connection(name), proven=False) for name in ("crowd", "reader")]
        shares[0].connection.unread, shares[1].connection.unread = 900, 200
        return [turns.leaves_most(share, 1000) for share in shares]

    assert in_own_time(run()) == [True, False]
