"""The catalog: one of two writers wins, snapshots are complete, and errors are clear."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from choline_data.errors import (
    AlreadyExistsError,
    CholineDataError,
    DamagedStoreError,
    InvalidNameError,
    UnknownDatasetError,
)
from choline_data.places.home import Home
from choline_data.store import Catalog, Entry, Revision
from choline_data.store.snapshots import check_name, name_from
from choline_data.upkeep.garbage import collect
from choline_data.upkeep.verify import verify


def entry(name: str, revision: str = "a" * 64) -> Entry:
    return Entry(name, revision, "text", 1, 1)


def test_what_is_published_is_found_and_what_is_removed_is_not(tmp_path):
    catalog = Catalog(Home(tmp_path))
    catalog.publish(entry("web"))
    assert catalog.entry("web").revision == "a" * 64
    catalog.remove("web")
    with pytest.raises(UnknownDatasetError, match="No dataset 'web' in the catalog"):
        catalog.entry("web")


def test_an_unknown_name_is_told_its_nearest(tmp_path):
    catalog = Catalog(Home(tmp_path))
    catalog.publish(entry("rivers-en"))
    with pytest.raises(UnknownDatasetError, match="Did you mean 'rivers-en'"):
        catalog.entry("rivres-en")


def test_other_content_under_a_taken_name_is_refused_and_the_same_content_is_not(tmp_path):
    catalog = Catalog(Home(tmp_path))
    catalog.publish(entry("web"))
    catalog.publish(entry("web"))
    with pytest.raises(AlreadyExistsError, match="exists already"):
        catalog.publish(entry("web", "b" * 64))
    replaced = catalog.publish(entry("web", "b" * 64), replaces="a" * 64)
    assert replaced.earlier == ("a" * 64,)


def _publish(location: str, number: int, start, results) -> None:
    start.wait(20)
    try:
        Catalog(Home(location)).publish(entry("one", f"{number:064x}"))
        results.put("won")
    except AlreadyExistsError:
        results.put("told")
    Catalog(Home(location)).publish(entry(f"own-{number}"))


def test_of_eight_writers_of_one_name_one_wins_and_no_other_change_is_lost(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(8), context.Queue()
    writers = [context.Process(target=_publish, args=(str(tmp_path), n, start, results)) for n in range(8)]
    for writer in writers:
        writer.start()
    outcome = sorted(results.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert outcome == ["told"] * 7 + ["won"]
    assert sorted(Catalog(Home(tmp_path)).entries()) == ["one", *(f"own-{n}" for n in range(8))]


def test_a_lost_or_lying_hint_costs_nothing_but_time(tmp_path):
    home = Home(tmp_path)
    catalog = Catalog(home)
    for number in range(3):
        catalog.publish(entry(f"d{number}"))
    for hint in (b"1", b"999", b"junk", b""):
        home.hint("catalog/HEAD", hint)
        assert len(catalog.entries()) == 3


def test_a_damaged_snapshot_is_read_from_its_copy_and_named_where_that_is_damaged_too(tmp_path):
    home = Home(tmp_path)
    Catalog(home).publish(entry("web"))
    os.chmod(home.path("catalog/00000001.json"), 0o644)
    Path(home.path("catalog/00000001.json")).write_text("{")
    assert list(Catalog(home).entries()) == ["web"]
    Path(home.path("copies/00000001.json")).write_text("{")
    with pytest.raises(DamagedStoreError, match="snapshot 1"):
        Catalog(home).entries()


def test_every_bit_of_a_snapshot_is_covered(tmp_path):
    home = Home(tmp_path)
    Catalog(home).publish(entry("web"))
    Path(home.path("copies/00000001.json")).unlink()
    path = Path(home.path("catalog/00000001.json"))
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(DamagedStoreError):
            Catalog(home).entries()


def test_a_snapshot_under_another_number_is_refused(tmp_path):
    home = Home(tmp_path)
    Catalog(home).publish(entry("web"))
    Catalog(home).publish(entry("code"))
    Path(home.path("catalog/00000002.json")).write_bytes(home.read("catalog/00000001.json"))
    assert list(Catalog(home).entries()) == ["code", "web"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a..b", "-a", "a" * 129, "a\n", "é", "a b"])
def test_a_name_that_could_be_a_path_or_be_misread_is_refused(name):
    with pytest.raises(InvalidNameError):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "name"), [("My Data (v2)", "my-data-v2"), ("Größe", "groe"), ("..", "dataset"), ("a..b", "a.b")]
)
def test_a_name_is_made_of_a_file_name(text, name):
    assert name_from(text) == check_name(name)


def test_verify_reads_every_byte(shelf, numbered):
    web = shelf.add("web", numbered("page", 50))
    assert verify(shelf.home, web)["files"] == 1
    data = next(n for n in shelf.home.names("data") if n.endswith(".arrow"))
    path = shelf.home.path(data)
    raw = bytearray(Path(path).read_bytes())
    os.chmod(path, 0o644)
    for at in (3, len(raw) // 2, len(raw) - 3):
        damaged = bytearray(raw)
        damaged[at] ^= 4
        with open(path, "wb") as file:
            file.write(damaged)
        with pytest.raises(CholineDataError, match="checksum"):
            verify(shelf.home, web)


def test_gc_frees_what_nothing_names_and_nothing_else(shelf, numbered):
    shelf.add("web", numbered("page", 50))
    kept = shelf.add("code", numbered("line", 20))
    Catalog(shelf.home).remove("web")
    staged = os.path.join(shelf.home.path("staging"), f"999999999-{'0' * 32}-left")
    os.makedirs(os.path.dirname(staged), exist_ok=True)
    Path(staged).touch()
    done = collect(shelf.home, keep_days=0)
    assert done.files >= 4 and done.bytes > 0
    verify(shelf.home, kept)
    assert collect(shelf.home, keep_days=0).files == 0


def test_a_revision_reads_any_range_over_files_and_blocks(shelf):
    parts = {("", "train"): {"text": [f"t{n}" for n in range(10)]}, ("", "test"): {"text": [f"e{n}" for n in range(7)]}}
    web = shelf.add("web", parts=parts)
    revision = Revision(shelf.home, web.revision)
    every = [f"t{n}" for n in range(10)] + [f"e{n}" for n in range(7)]
    for start in range(18):
        for stop in range(start, 18):
            got = [text for batch in revision.read(start, stop) for text in batch["text"].to_pylist()]
            assert got == every[start:stop]
    assert revision.spans("test") == [(10, 17)] and revision.spans() == [(0, 17)]
