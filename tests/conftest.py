"""What several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, settings
from tests.served import Serve, Served

from choline_data import schema as one
from choline_data.places.home import Home
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.revision import manifest_name
from choline_data.store.sample_ids import sample_ids

# Machines are shared: how long an example takes says nothing about it.
settings.register_profile("choline", deadline=None, derandomize=bool(os.environ.get("CI")))
# A mutant is to be noticed, not to be explained.
settings.register_profile(
    "mutants", deadline=None, derandomize=True, max_examples=25, phases=[Phase.explicit, Phase.generate], database=None
)
settings.load_profile("choline")

Parts = dict[tuple[str, str], dict[str, list[Any]]]


class Shelf:
    """A home, and `add` to put a dataset of given columns into it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)

    def add(self, name: str, columns: dict[str, list[Any]] | None = None, **options: Any) -> Entry:
        """Stores these columns (or `parts`: columns by (config, split)) as a dataset; other options go to its entry.

        The revision names its files `times` times.
        """
        parts: Parts = options.pop("parts", {("", ""): columns or {}})
        kind = options.pop("kind", "text")
        block_rows = options.pop("block_rows", 4)
        times = options.pop("times", 1)
        names = list(dict.fromkeys(column for part in parts.values() for column in part))
        schema = one.stored_schema(names)
        files = []
        for (config, split), held in parts.items():
            rows = len(next(iter(held.values())))
            arrays = {column: pa.array(values, one.STORED.field(column).type) for column, values in held.items()}
            content = pa.record_batch(list(arrays.values()), names=list(arrays))
            arrays["id"] = sample_ids(content)
            places = [pa.repeat(name, rows), pa.array(range(rows), pa.int64())]
            arrays["origin"] = pa.StructArray.from_arrays(places, fields=list(one.ORIGIN))
            writer = BlockWriter(self.home, schema, block_rows)
            writer.write(pa.record_batch([arrays[field.name] for field in schema], schema=schema))
            written = writer.close()
            assert written is not None
            files.append(StoredFile(written.sha256, written.rows, written.bytes, name, split, config))
        manifest = Manifest(tuple(files) * times, tuple(names), block_rows, {"kind": kind})
        self.home.create(manifest_name(manifest.revision), manifest.encode())
        before = Catalog(self.home).entries().get(name)
        entry = Entry(name, manifest.revision, kind, manifest.rows, manifest.bytes, **options)
        return Catalog(self.home).publish(entry, replaces=before.revision if before else None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real and hostile datasets: $CHOLINE_TEST_DATA, or shared/data beside or above the checkout."""
    stated = os.environ.get("CHOLINE_TEST_DATA")
    above = Path(__file__).resolve().parents[1:4]
    places = [Path(stated)] if stated else [folder / "shared" / "data" for folder in above]
    found = next((place for place in places if (place / "manifest.json").is_file()), None)
    if found is None:
        pytest.skip(f"no real data at {places[0]}; set CHOLINE_TEST_DATA")
    return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty home."""
    return Shelf(tmp_path / "home")


@pytest.fixture
def numbered() -> Callable[[str, int], dict[str, list[Any]]]:
    """Columns of `count` short texts."""
    return lambda word, count: {"text": [f"{word} {number}" for number in range(count)]}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as running:
        yield lambda home, *flags, port=0: running.enter_context(Served(home, *flags, port=port))
