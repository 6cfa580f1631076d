"""Messages are planned so that they stay below the maximum: a larger one would be made twice."""

from __future__ import annotations

from typing import Any

import pytest

from choline_data.mix import resolve_mix
from choline_data.service.opened import PLANNED_BYTES, Opened
from choline_data.store.windows import Store
from choline_data.streams import wire
from choline_data.views import open_stream


@pytest.mark.parametrize("row_bytes", [60, 700, 2_400, 35_000, 400_000])
@pytest.mark.parametrize("target", [64 << 10, 512 << 10, 1 << 20, wire.MAX_BYTES])
def test_a_message_is_about_as_large_as_asked_and_at_most_three_quarters_of_the_maximum(
    shelf: Any, row_bytes: int, target: int
) -> None:
    shelf.add("docs", {"text": ["x"]})
    store = Store(shelf.home)
    opened = Opened(open_stream(store, resolve_mix("docs", store), None), None)
    opened.settle(1, row_bytes)
    rows = opened.rows_a_message(target)
    size = rows * row_bytes
    assert rows == 1 or size <= PLANNED_BYTES < wire.MAX_BYTES
    assert size > min(target, PLANNED_BYTES) / 3 or rows == 1 << 14  # a power of two cannot be closer
