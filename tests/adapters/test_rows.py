"""Rows that are collected one by one: different values stay different, and no row is lost without being counted."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from choline_data.adapters.reading.rows import as_json
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.ingest import Ingested
from choline_data.catalog.planning import Wishes
from choline_data.places.home import Home
from choline_data.store import open_revision

Added = tuple[Ingested, list[dict[str, Any]]]


@pytest.fixture
def added(tmp_path: Path) -> Callable[..., Added]:
    """Adds a source. Returns the result of `add`, and the samples."""

    def adding(path: Path, **wishes: Any) -> Added:
        home = Home(tmp_path / "home")
        done = ingest(home, prepare(home, str(path), wishes=Wishes(**wishes)))
        opened = open_revision(home, done.entry.revision)
        return done, [row for batch in opened.read(0, opened.rows) for row in batch.to_pylist()]

    return adding


def tar_of(path: Path, members: dict[bytes, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_number_and_its_digits_in_quotes_stay_two_values(added, tmp_path):
    members = {b"a.txt": b"one text", b"a.json": b'{"v": 1}', b"b.txt": b"two texts", b"b.json": b'{"v": "1"}'}
    _, rows = added(tar_of(tmp_path / "mixed.tar", members))
    assert [orjson.loads(row["extra"])["v"] for row in rows] == [1, "1"]


def test_an_integer_over_64_bits_keeps_its_digits(added, tmp_path):
    members = {b"a.txt": b"one text", b"a.json": b'{"v": 12345678901234567890123, "w": [1, "1", true]}'}
    _, rows = added(tar_of(tmp_path / "long.tar", members))
    assert json.loads(rows[0]["extra"]) == {"__key__": "a", "v": 12345678901234567890123, "w": [1, "1", True]}


def test_a_member_with_a_lone_surrogate_is_rejected_and_the_others_are_not(added, tmp_path):
    path = tmp_path / "texts.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.txt", "hello there")
        packed.writestr("b-unicode_escape.txt", b"\xff \\ud800")
        packed.writestr("c.txt", "hello again")
    done, rows = added(path, max_rejects=0.5)
    assert [row["text"] for row in rows] == ["hello there", "hello again"]
    (reject,) = done.rejects
    assert (done.rejected, reject.row) == (1, 1)
    assert reject.file == "texts.zip!/b-unicode_escape.txt"
    assert "a lone surrogate" in reject.reason


def test_names_that_are_not_utf8_stay_two_names(added, tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    for name in (b"caf\xe8.txt", b"caf\xe9.txt"):
        try:
            (folder / name.decode("utf-8", "surrogateescape")).write_text("hello there")
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    assert [row["origin"]["file"] for row in added(folder)[1]] == [r"caf\xe8.txt", r"caf\xe9.txt"]


def test_members_whose_names_are_not_utf8_stay_two_members(added, tmp_path):
    members = {b"caf\xe8.txt": b"hello there", b"caf\xe9.txt": b"hello again"}
    _, rows = added(tar_of(tmp_path / "latin.tar", members))
    assert [row["origin"]["file"] for row in rows] == [r"latin.tar!/caf\xe8.txt", r"latin.tar!/caf\xe9.txt"]


def test_what_json_lacks_is_written_as_in_extra():
    assert as_json({"a": [b"\x00", float("nan"), float("-inf"), 0.5, None, True]}) == {
        "a": [{"$binary": "AA=="}, "NaN", "-Infinity", 0.5, None, True]
    }
