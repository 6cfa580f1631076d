"""Sources and homes on S3, with an S3 server on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import Shelf

from choline_data.catalog.add import ingest, prepare
from choline_data.client import FirehoseDataset
from choline_data.errors import AlreadyExistsError, SourceNotFoundError, UnavailableError
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision
from choline_data.store.derived import DerivedQuota, items
from choline_data.where.selection import selected_rows

TEXTS = [f"A line number {number} with words in it." for number in range(900)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server; skips where moto's, or s3fs, is not installed."""
    for module in ("s3fs", "boto3", "flask_cors"):
        pytest.importorskip(module, reason="needs s3fs, and moto[s3] with flask and flask-cors for a server")
    moto = pytest.importorskip("moto.server", reason="needs moto[s3] with flask and flask-cors for a server")
    running = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 bucket named `shelf`, empty."""
    import boto3
    import s3fs

    told = {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    for name, value in {**told, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    made = boto3.resource("s3").create_bucket(Bucket="shelf")
    yield made
    made.objects.delete()
    s3fs.S3FileSystem.clear_instance_cache()


def lines(folder: Path) -> Path:
    pq.write_table(pa.table({"text": TEXTS}), folder / "a.parquet", row_group_size=300)
    return folder / "a.parquet"


def test_a_source_on_s3_gives_the_revision_that_it_has_here(tmp_path: Path, bucket: Any):
    local = lines(tmp_path)
    bucket.upload_file(str(local), "corpus/a.parquet")
    here = Home(tmp_path / "home")
    kept = ingest(here, prepare(here, str(local), name="here")).entry
    for source in ("s3://shelf/corpus/a.parquet", "s3://shelf/corpus", "s3://shelf/corpus/*.parquet"):
        assert ingest(here, prepare(here, source, name="there")).entry.revision == kept.revision


def test_a_home_on_s3_holds_and_streams_what_a_home_here_does(tmp_path: Path, bucket: Any):
    local = lines(tmp_path)
    here, there = Home(tmp_path / "home"), Home("s3://shelf/home")
    for home in (here, there):
        done = ingest(home, prepare(home, str(local), name="lines"))
        opened = open_revision(home, done.entry.revision)
        assert [t for batch in opened.read(0, opened.rows, ["text"]) for t in batch["text"].to_pylist()] == TEXTS
    assert [there.read(name) for name in there.names("blocks")] == [here.read(name) for name in here.names("blocks")]
    options = {"seed": 3, "repeat": False, "batch_size": 100}
    read = [
        [batch["id"] for batch in FirehoseDataset("lines", home=home.location, **options)] for home in (here, there)
    ]
    assert read[0] == read[1]
    assert sum(map(len, read[1])) == 900


def test_of_two_writers_of_a_catalog_on_s3_one_is_told(bucket: Any):
    shelf = Shelf(Path("unused"))
    shelf.home = Home("s3://shelf/home")
    first = shelf.add("web", {"text": ["one", "two"]})
    late = Catalog(Home("s3://shelf/home"))
    shelf.add("web", {"text": ["three"]})
    with pytest.raises(AlreadyExistsError, match="web"):
        late.publish(first, replaces=first.revision)
    assert Catalog(Home("s3://shelf/home")).entries()["web"].rows == 1


def test_of_eight_writers_of_one_object_at_once_one_wins(bucket: Any):
    """There is no lock: S3 itself refuses to create an object that exists."""
    home = Home("s3://shelf/home")
    home.names("catalog")  # one connection is open
    texts = [b"by writer %d" % number for number in range(8)]
    with ThreadPoolExecutor(8) as writers:
        won = list(writers.map(lambda text: home.create("catalog/1", text), texts))
    assert won.count(True) == 1
    assert home.read("catalog/1") == texts[won.index(True)]


def test_an_object_that_another_wrote_is_there_at_once(bucket: Any):
    """s3fs caches listings, and the object may be newer than the listing."""
    home = Home("s3://shelf/home")
    assert home.names("catalog") == []
    assert not home.exists("catalog/1")
    bucket.put_object(Key="home/catalog/1", Body=b"from elsewhere")
    assert home.exists("catalog/1")
    assert not home.create("catalog/1", b"mine")
    assert home.read("catalog/1") == b"from elsewhere"
    assert home.names("catalog") == ["catalog/1"]


def test_what_is_not_on_s3_is_said_with_its_address(tmp_path: Path, bucket: Any):
    home = Home(tmp_path / "home")
    for source in ("s3://shelf/none.parquet", "s3://no-such-bucket/a.parquet"):
        with pytest.raises(SourceNotFoundError, match=source):
            prepare(home, source, name="none")


def test_an_s3_that_does_not_answer_is_unavailable(tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnavailableError, match=r"s3://shelf/a\.parquet"):
        ingest(Home(tmp_path), prepare(Home(tmp_path), "s3://shelf/a.parquet", name="none"))


def test_what_requests_leave_in_a_home_on_s3_has_a_quota(bucket: Any):
    shelf = Shelf(Path("unused"))
    shelf.home = Home("s3://shelf/home")
    web = open_revision(shelf.home, shelf.add("web", {"text": TEXTS}, block_rows=500).revision)
    rows = [selected_rows(shelf.home, web, f"len(text) > {number}").tolist() for number in range(6)]
    first = items(shelf.home)[0]
    mine = Home("s3://shelf/home")  # of another host
    mine.derived = DerivedQuota(limit=sum(item.size for item in items(mine)))
    time.sleep(1.1)  # a bucket tells times of use by the second
    mine.derived.mark(mine, first.name)
    selected_rows(mine, web, "len(text) > 30")
    left = items(shelf.home)
    assert sum(item.size for item in left) <= mine.derived.limit
    assert first.name in [item.name for item in left] and left[-1].name != first.name
    assert [selected_rows(shelf.home, web, f"len(text) > {number}").tolist() for number in range(6)] == rows
