"""A text that is not UTF-8 is an error in a trainer, however it arrives there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from tests.conftest import Shelf
from tests.served import Served

from choline_data.client import FirehoseDataset
from choline_data.client.making.samples import Batch
from choline_data.errors import SourceDamagedError

pytest.importorskip("torch")
LENGTHS = [5, 100, 20_000]


def _with_bad_text(lengths: int) -> pa.Array:
    """Five texts of this length; the fourth ends in a byte that is not UTF-8."""
    texts = [bytes([97 + n]) * lengths for n in range(5)]
    texts[3] = texts[3][:-1] + b"\xff"
    return pa.array(texts, pa.large_binary()).view(pa.large_string())


def _one_by_one(dataset: Callable[..., FirehoseDataset]) -> Any:
    return [sample["text"] for sample in dataset()]


def _in_batches(dataset: Callable[..., FirehoseDataset]) -> Any:
    return [batch["text"] for batch in dataset(batch_size=5)]


def _as_arrow(dataset: Callable[..., FirehoseDataset]) -> Any:
    return [batch.arrow("text") for batch in dataset(batch_size=5) if isinstance(batch, Batch)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """A home with a dataset for each length, and a server of it."""
    shelf = Shelf(tmp_path_factory.mktemp("text") / "home")
    for length in LENGTHS:
        shelf.add(f"bad-{length}", {"text": _with_bad_text(length)})
    with Served(shelf.home.location) as server:
        yield {"home": {"home": shelf.home.location}, "server": {"server": server.address}}


@pytest.mark.parametrize("length", LENGTHS, ids=["in the view", "copied first", "long"])
@pytest.mark.parametrize("read", [_one_by_one, _in_batches, _as_arrow])
@pytest.mark.parametrize("place", ["home", "server"])
def test_a_text_that_is_not_utf8_is_an_error(places: Any, length: int, read: Any, place: str) -> None:
    def dataset(**options: Any) -> FirehoseDataset:
        fixed: dict[str, Any] = {"repeat": False, "shuffle": False, "rank": 0, "world_size": 1}
        return FirehoseDataset(f"bad-{length}", **fixed, **places[place], **options)

    with pytest.raises(SourceDamagedError, match="not UTF-8"):
        read(dataset)
