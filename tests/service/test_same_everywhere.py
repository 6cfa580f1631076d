"""One recipe is one stream: the same bytes from this process, from any server, any client and after any restart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from tests.served import Serve, Served

from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.store.windows import Store
from choline_data.views import open_stream

from ..conftest import Shelf  # noqa: TID252 - tests are no package

ROWS = 100_000
MIX = {"web": 0.6, "code": 0.3, "chat": 0.1}
SIZES = {"web": 40_000, "code": 25_000, "chat": 3_000}  # chat comes round several times


def digest(parts: Iterable[Any]) -> tuple[int, str]:
    """How many rows there are, and the sha256 of their ids and texts, however they are cut into parts."""
    content = hashlib.sha256()
    rows = 0
    for part in parts:
        ids, texts = (c if isinstance(c, list) else c.to_pylist() for c in (part["id"], part["text"]))
        content.update(b"".join(i + len(t).to_bytes(4, "big") + t.encode() for i, t in zip(ids, texts, strict=True)))
        rows += len(ids)
    return rows, content.hexdigest()


def embedded(home: str, recipe: Recipe) -> Iterable[pa.RecordBatch]:
    """The core's own stream."""
    stream = open_stream(Store(Home(home)), recipe)
    return (stream.read(start, min(start + 7_000, ROWS)) for start in range(0, ROWS, 7_000))


def with_flight(served: Served, recipe: Recipe) -> pa.Table:
    """What a Flight client that knows nothing of us reads."""
    ticket = json.dumps({"recipe": json.loads(recipe.to_json()), "start": 0, "stop": ROWS})
    with flight.connect(f"grpc://{served.address}") as client:
        return client.do_get(flight.Ticket(ticket)).read_all()


@pytest.mark.slow
def test_a_recipe_is_the_same_rows_wherever_it_is_read(serve: Serve, shelf: Shelf) -> None:
    pytest.importorskip("torch")
    from choline_data.client import FirehoseDataset

    for name, rows in SIZES.items():
        shelf.add(name, {"text": [f"{name} {n} " + "x" * (n % 60) for n in range(rows)]}, block_rows=256)
    home = str(shelf.home.location)
    recipes: set[str] = set()

    def dataset(size: int, **options: Any) -> FirehoseDataset:
        made = FirehoseDataset(MIX, seed=11, max_samples=ROWS, batch_size=size, **options)
        recipes.add(made.recipe.digest)
        return made

    here = dataset(1000, home=home)
    recipe = here.recipe
    found = {"FirehoseDataset": digest(here), "Stream": digest(embedded(home, recipe))}
    first = serve(home)
    found["remote"] = digest(dataset(999, server=first.address))
    found["Flight"] = digest([with_flight(first, recipe)])
    second = serve(home, "--limit", "message_bytes=65536")
    found["another server, other messages"] = digest(dataset(1000, server=second.address))
    assert second.terminate() == 0
    assert first.terminate() == 0
    again = serve(home, port=first.port)
    found["restarted"] = digest(dataset(4096, server=again.address))
    assert again.terminate() == 0
    workers = serve(home, "--workers", "4")
    for number in range(4):  # connections of their own: the kernel spreads them
        found[f"--workers 4, reading {number}"] = digest(dataset(1000, server=workers.address))
    assert workers.terminate() == 0

    assert len(recipes) == 1
    assert set(found.values()) == {(ROWS, found["Stream"][1])}, found
