"""Only plain arrays leave the trainer's process or reach its user: other libraries misread the views that we gather."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from choline_data.client import FirehoseDataset
from choline_data.client.making.samples import Batch

pytest.importorskip("torch")
LONG = "a text that is too long for the view itself"


@pytest.fixture
def batch(shelf: Any) -> Batch:
    turns = [[{"role": "user", "content": f"{LONG} {n}"}] for n in range(8)]
    shelf.add("chat", {"text": [f"{LONG} {n}" for n in range(8)], "turns": turns}, kind="chat")
    dataset = FirehoseDataset("chat", home=shelf.home.location, batch_size=8, shuffle=False, rank=0, world_size=1)
    made = next(iter(dataset))
    assert isinstance(made, Batch)
    return made


def _has_views(kind: pa.DataType) -> bool:
    return kind in (pa.string_view(), pa.binary_view()) or any(
        _has_views(kind.field(index).type) for index in range(kind.num_fields)
    )


def test_gathered_columns_are_views(batch: Batch) -> None:
    assert _has_views(batch._columns["text"].type) and _has_views(batch._columns["turns"].type)


@pytest.mark.parametrize("name", ["text", "turns"])
def test_the_user_gets_plain_arrays(batch: Batch, name: str) -> None:
    array = batch.arrow(name)
    assert array is not None
    array.validate(full=True)
    assert not _has_views(array.type)


def test_a_worker_sends_plain_arrays(batch: Batch) -> None:
    _, (_, raw_schema, raw, _) = batch.__reduce__()
    sent = pa.ipc.read_record_batch(pa.py_buffer(raw), pa.ipc.read_schema(pa.py_buffer(raw_schema)))
    sent.validate(full=True)
    assert {"text", "turns"} <= set(sent.schema.names)
    assert not any(_has_views(field.type) for field in sent.schema)
