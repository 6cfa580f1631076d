"""Remote sources are added completely with every kind of server. If the server fails, nothing is added."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.ingest import Ingested
from choline_data.errors import (
    PermissionDeniedError,
    SourceDamagedError,
    SourceNotFoundError,
    SourceTooLargeError,
    UnavailableError,
)
from choline_data.places import downloads as remote
from choline_data.places import web_files
from choline_data.places.home import Home
from choline_data.store import open_revision

TEXTS = [f"A line number {number} with words in it." for number in range(900)]


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), out, row_group_size=300)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, text in enumerate(TEXTS):
            for suffix, data in (("txt", text.encode()), ("json", b'{"n": %d}' % number)):
                info = tarfile.TarInfo(f"{number:05}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _lines() -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


FILES = {"a.parquet": _parquet(), "a.jsonl.gz": gzip.compress(_lines(), mtime=0), "a.jsonl": _lines(), "a.tar": _tar()}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A web server that holds FILES."""
    pytest.importorskip("requests")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from web import serving

    with serving(dict(FILES)) as server:
        yield server


def add(home: Path, location: str) -> Ingested:
    return ingest(Home(home), prepare(Home(home), location, name="web"))


def texts(home: Path, done: Ingested) -> list[str]:
    opened = open_revision(Home(home), done.entry.revision)
    return [text for batch in opened.read(0, opened.rows, ["text"]) for text in batch["text"].to_pylist()]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["range", "whole", "chunked", "flaky", "moved"])
def test_a_file_is_added_whole_whatever_the_server_can_do(tmp_path, web, way, name):
    assert texts(tmp_path, add(tmp_path, web.url(way, name))) == TEXTS


def test_it_is_the_revision_that_the_same_file_here_has(tmp_path, web):
    (tmp_path / "a.parquet").write_bytes(FILES["a.parquet"])
    there = add(tmp_path / "there", web.url("range", "a.parquet"))
    here = add(tmp_path / "here", str(tmp_path / "a.parquet"))
    assert there.entry.revision == here.entry.revision


@pytest.mark.parametrize("name", FILES)
def test_a_connection_that_is_cut_each_time_is_an_error_with_the_address_and_the_byte(tmp_path, web, name):
    with pytest.raises(UnavailableError, match=rf"/cut/{name} can't be read from byte [\d,]+ of [\d,]+ ") as caught:
        add(tmp_path, web.url("cut", name))
    assert "try again" in caught.value.remedy
    assert len(remote.WAITS) < web.asked["GET cut"] <= 9 * (len(remote.WAITS) + 1)
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_file_that_came_short_is_damaged_where_it_says_its_length(tmp_path, web):
    for name in ("a.parquet", "a.jsonl.gz"):
        with pytest.raises(SourceDamagedError, match=name):
            add(tmp_path, web.url("short", name))


@pytest.mark.parametrize(
    ("later", "kind", "words"),
    [
        (_lines()[:100], UnavailableError, "fewer bytes than for an earlier request"),
        (b"another content", SourceDamagedError, "has changed since it was listed"),
    ],
)
def test_a_file_that_is_shorter_or_another_one_when_its_reading_goes_on_is_an_error(
    web, monkeypatch, later, kind, words
):
    monkeypatch.setattr(remote, "BUFFER_BYTES", 1000)
    with remote.open_remote(web.url("hangs-up", "a.jsonl")) as file:
        assert file.read(5000) == FILES["a.jsonl"][:5000]
        web.files["a.jsonl"] = later
        web.hang_up.set()
        with pytest.raises(kind, match=words):
            file.read()


@pytest.mark.parametrize(
    ("way", "name", "kind", "words"),
    [
        ("range", "none.jsonl", SourceNotFoundError, "there is nothing at that address"),
        ("denied", "a.jsonl", PermissionDeniedError, "access is denied"),
        ("down", "a.jsonl", UnavailableError, "the server answered 503"),
    ],
)
def test_what_the_server_answers_is_said_with_the_address(tmp_path, web, way, name, kind, words):
    with pytest.raises(kind, match=words) as caught:
        add(tmp_path, web.url(way, name))
    assert web.url(way, name) in caught.value.message
    assert caught.value.remedy


def test_a_password_in_the_address_is_in_no_error(tmp_path, web):
    with pytest.raises(UnavailableError) as caught:
        add(tmp_path, web.url("down", "a.jsonl").replace("//", "//me:hunter2@") + "?token=hunter2")
    assert "hunter2" not in str(caught.value)


def test_what_is_kept_of_a_server_without_ranges_is_bounded(tmp_path, web, monkeypatch):
    monkeypatch.setattr(web_files, "MAX_KEPT_BYTES", 5000)
    with pytest.raises(SourceTooLargeError, match="does not answer range requests"):
        add(tmp_path, web.url("chunked", "a.parquet"))


def test_a_server_that_is_not_there_can_not_be_reached(tmp_path):
    pytest.importorskip("requests")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9/a\.jsonl can't be reached"):
        add(tmp_path, "http://127.0.0.1:9/a.jsonl")


def test_an_object_store_is_read_as_a_folder(tmp_path):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe({f"/bucket/part-{n}.jsonl.gz": gzip.compress(_lines()) for n in range(2)})
    try:
        assert texts(tmp_path, add(tmp_path, "memory://bucket")) == TEXTS + TEXTS
    finally:
        fs.rm("/bucket", recursive=True)


def test_an_object_that_ends_early_is_no_short_dataset(tmp_path, monkeypatch):
    import fsspec
    from fsspec.implementations.memory import MemoryFile

    fs = fsspec.filesystem("memory")
    fs.pipe({"/bucket/a.jsonl": _lines()})
    monkeypatch.setattr(MemoryFile, "size", property(lambda file: len(_lines()) + 10))
    try:
        with pytest.raises(
            UnavailableError, match=r"bucket/a\.jsonl can't be read from byte 43,090 of 43,100 .*fewer bytes than"
        ):
            add(tmp_path, "memory://bucket/a.jsonl")
    finally:
        fs.rm("/bucket", recursive=True)
