"""A thread that computes items ahead: their order, their number, errors and the end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator

import pytest

from choline_data.process.reading_thread import one_ahead


class Source:
    """A generator of the numbers below `count` that notes what it has begun, and whether it was closed."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.count = count
        self.fails_at = fails_at
        self.begun = 0
        self.closed = False
        self.threads: set[str] = set()
        self.second_begun = threading.Event()
        self.third_begun = threading.Event()

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                self.threads.add(threading.current_thread().name)
                self.begun += 1
                if number == 1:
                    self.second_begun.set()
                if number == 2:
                    self.third_begun.set()
                if number == self.fails_at:
                    raise ValueError(f"item {number}")
                yield number
        finally:
            self.closed = True


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "choline-read"]


@pytest.mark.parametrize("count", [0, 1, 2, 1_000])
def test_all_items_come_in_order_and_the_thread_ends(count: int) -> None:
    source = Source(count)
    assert list(one_ahead(source.items)) == list(range(count))
    assert source.closed
    assert not reading_threads()


def test_it_ends_however_the_threads_take_turns() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            assert list(one_ahead(Source(1_000).items)) == list(range(1_000))
    finally:
        sys.setswitchinterval(interval)


def test_the_next_item_is_computed_while_this_one_is_used_and_no_item_more() -> None:
    source = Source(5)
    items = one_ahead(source.items)
    assert next(items) == 0
    assert source.second_begun.wait(30)
    assert not source.third_begun.is_set()
    assert next(items) == 1
    assert source.third_begun.wait(30)
    items.close()


def test_an_error_comes_after_the_items_before_it() -> None:
    source = Source(5, fails_at=2)
    items = one_ahead(source.items)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(items)
    assert source.closed
    assert not reading_threads()


def test_closing_it_closes_the_generator_in_the_thread_that_ran_it() -> None:
    source = Source(1_000)
    items = one_ahead(source.items)
    assert next(items) == 0
    items.close()
    assert source.closed
    assert source.begun <= 3
    assert source.threads == {"choline-read"}
    assert not reading_threads()


def test_an_error_of_the_caller_ends_the_thread() -> None:
    source = Source(1_000)

    def use() -> None:
        for item in one_ahead(source.items):
            raise KeyError(item)

    with pytest.raises(KeyError):
        use()
    assert source.closed
    assert not reading_threads()
