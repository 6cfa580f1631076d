"""Lance datasets that pylance writes: the existing rows of the version that was the newest when the source was added."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from choline_data.adapters.lance import detect
from choline_data.catalog.locate import resolve
from choline_data.errors import SourceDamagedError

pylance = pytest.importorskip("lance", reason="pylance (217 MB) is not installed: choline-data[lance]")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A dataset of two fragments of three rows each."""
    path = tmp_path / "t.lance"
    for first in (0, 3):
        pylance.write_dataset(
            pa.table({"n": [first, first + 1, first + 2]}), str(path), mode="append" if first else "create"
        )
    return path


def numbers(place: Path) -> list[int]:
    (claim,) = detect(resolve(str(place)))
    return [
        n for s in claim.adapter.shards(claim.files) for c in claim.adapter.read(s) for n in c.batch["n"].to_pylist()
    ]


def test_fragments_are_shards_and_deleted_rows_are_gone(place):
    (claim,) = detect(resolve(str(place)))
    assert len(claim.adapter.shards(claim.files)) == 2
    assert numbers(place) == [0, 1, 2, 3, 4, 5]
    pylance.dataset(str(place)).delete("n = 1")
    assert numbers(place) == [0, 2, 3, 4, 5]


def test_what_is_appended_after_it_was_found_is_not_read(place):
    (claim,) = detect(resolve(str(place)))
    pylance.write_dataset(pa.table({"n": [6]}), str(place), mode="append")
    assert len(claim.adapter.shards(claim.files)) == 2


def test_a_damaged_dataset_names_itself(place):
    data = next((place / "data").iterdir())
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(SourceDamagedError, match=r"t\.lance"):
        numbers(place)
    for manifest in (place / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"junk")
    with pytest.raises(SourceDamagedError, match=r"t\.lance"):
        numbers(place)
