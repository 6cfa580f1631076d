"""Samples by id: the index gives the same rows as a scan, and a damaged index is an error."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from choline_data.errors import DamagedStoreError
from choline_data.store import open_revision
from choline_data.store.id_index import IdIndex, index_name, make, rows_of, scanned
from choline_data.upkeep.garbage import collect


@pytest.fixture
def revision(shelf):
    """5,000 rows with every text three times but for the last two rows."""
    entry = shelf.add("web", {"text": [f"page {n % 1666}" for n in range(5000)]}, block_rows=64)
    return open_revision(shelf.home, entry.revision)


def ids_of(revision):
    """The id of every row."""
    return [i for batch in revision.read(0, revision.rows, ["id"]) for i in batch["id"].to_pylist()]


def test_every_id_has_all_of_its_rows(shelf, revision):
    ids = ids_of(revision)
    for row in (0, 1, 1665, 1666, 3333, 4998, 4999):
        expected = [n for n in range(5000) if n % 1666 == row % 1666]
        assert rows_of(shelf.home, revision, [ids[row]]).tolist() == expected
    assert shelf.home.exists(index_name(revision.revision))
    assert rows_of(shelf.home, revision, ids).tolist() == list(range(5000))


def test_an_id_that_is_not_there_has_no_rows(shelf, revision):
    near = bytearray(ids_of(revision)[7])
    near[-1] ^= 1
    for ids in ([], [bytes(16)], [b"\xff" * 16], [bytes(near)]):
        assert rows_of(shelf.home, revision, ids).tolist() == []
    there = ids_of(revision)[7]
    assert rows_of(shelf.home, revision, [bytes(near), there, there]).tolist() == [7, 1673, 3339]


@pytest.mark.parametrize("at_once", [5000, 4999, 1000, 64])
def test_an_index_that_is_made_in_parts_is_the_same_file(shelf, revision, at_once):
    make(shelf.home, revision)
    whole = shelf.home.read(index_name(revision.revision))
    shelf.home.remove(index_name(revision.revision))
    make(shelf.home, revision, at_once=at_once)
    assert shelf.home.read(index_name(revision.revision)) == whole
    assert os.listdir(shelf.home.path("staging")) == []


@pytest.mark.parametrize("rows", [1, 2, 1023, 1024, 2049])
def test_small_revisions_have_an_index_too(shelf, rows):
    entry = shelf.add("few", {"text": [str(n) for n in range(rows)]})
    found = open_revision(shelf.home, entry.revision)
    assert rows_of(shelf.home, found, ids_of(found)).tolist() == list(range(rows))


def test_the_index_says_what_a_scan_says(shelf, revision):
    ids = ids_of(revision)
    some = [*random.Random(3).sample(ids, 40), b"x" * 16]
    assert np.array_equal(rows_of(shelf.home, revision, some), np.sort(scanned(revision, some)))


def test_a_home_that_can_not_be_written_is_scanned(shelf, revision):
    staging = shelf.home.path("staging")
    for name in os.listdir(staging):
        os.unlink(os.path.join(staging, name))
    os.rmdir(staging)
    with open(staging, "w"):  # where the folder should be
        assert rows_of(shelf.home, revision, [ids_of(revision)[0]]).tolist() == [0, 1666, 3332, 4998]
    assert not shelf.home.exists(index_name(revision.revision))


def test_a_spoiled_index_never_gives_other_rows(shelf, revision):
    make(shelf.home, revision)
    path = shelf.home.path(index_name(revision.revision))
    with open(path, "rb") as file:
        whole = file.read()
    ids = ids_of(revision)
    chance = random.Random(9)
    refused = 0
    os.chmod(path, 0o644)
    for at in (*range(32), *(chance.randrange(32, len(whole)) for _ in range(40))):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1 << chance.randrange(8)
        with open(path, "wb") as file:
            file.write(spoiled)
        with pytest.raises(DamagedStoreError, match="choline-data repair"):
            IdIndex(shelf.home, revision).rows_of(ids)
        refused += 1
    for length in (0, 10, 40, len(whole) - 1):
        with open(path, "wb") as file:
            file.write(whole[:length])
        with pytest.raises(DamagedStoreError):
            IdIndex(shelf.home, revision).rows_of(ids)
    assert refused == 72


def test_the_index_goes_with_its_revision_and_not_before(shelf, revision):
    make(shelf.home, revision)
    collect(shelf.home, keep_days=0)
    assert shelf.home.exists(index_name(revision.revision))
    shelf.add("web", {"text": ["new"]})
    collect(shelf.home, keep_days=0)
    assert not shelf.home.exists(index_name(revision.revision))
