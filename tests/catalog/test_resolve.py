"""What a user types, made a Source."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.locate import expanded, resolve
from choline_data.errors import (
    ForbiddenLocationError,
    PermissionDeniedError,
    SourceFormatError,
    SourceNotFoundError,
    UnavailableError,
)
from choline_data.places import downloads as remote
from choline_data.places.home import Home
from choline_data.store import open_revision


def names(place: object) -> list[str]:
    return [f.name for f in resolve(str(place)).files]


def put(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def test_a_folder_lists_its_files_in_order_without_caches_and_hidden_ones(tmp_path: Path) -> None:
    put(
        tmp_path,
        "b/1.txt",
        "a.txt",
        ".hidden",
        ".git/config",
        "__pycache__/m.pyc",
        ".DS_Store",
        ".gitattributes",
        ".dvc/config",
        ".dvc/cache/x",
    )
    assert names(tmp_path) == [".dvc/config", ".gitattributes", "a.txt", "b/1.txt"]


def test_a_file_a_glob_a_set_and_a_url_name_the_same_files(tmp_path: Path) -> None:
    put(tmp_path, "p-000.csv", "p-001.csv", "q.csv")
    assert names(tmp_path / "q.csv") == ["q.csv"]
    assert names(tmp_path / "p-*.csv") == ["p-000.csv", "p-001.csv"]
    assert names(tmp_path / "p-{000..001}.csv") == ["p-000.csv", "p-001.csv"]
    assert names(f"file://{tmp_path}/{{q,p-000}}.csv") == ["q.csv", "p-000.csv"]
    assert expanded("a-{008..010}-{x,y}")[:3] == ["a-008-x", "a-008-y", "a-009-x"]


def test_a_set_with_a_missing_file_names_it(tmp_path: Path) -> None:
    put(tmp_path, "p-0.csv")
    with pytest.raises(SourceNotFoundError, match=r"p-1\.csv"):
        resolve(f"{tmp_path}/p-{{0..1}}.csv")


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_a_file(tmp_path: Path) -> None:
    inside = put(tmp_path / "in", "a.txt")
    (inside / "b.txt").symlink_to(inside / "a.txt")
    assert names(inside) == ["a.txt", "b.txt"]
    (inside / "c.txt").symlink_to("/etc/hostname")
    with pytest.raises(ForbiddenLocationError, match=r"c\.txt is a link that leads out"):
        resolve(str(inside))


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    put(tmp_path, "datasets--o--n/blobs/abc", "datasets--o--n/snapshots/1/README.md")
    snapshot = tmp_path / "datasets--o--n/snapshots/1"
    (snapshot / "a.csv").symlink_to("../../blobs/abc")
    assert names(snapshot) == ["README.md", "a.csv"]


def test_a_fifo_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceNotFoundError, match="holds no files"):
        resolve(str(tmp_path))
    with pytest.raises(ForbiddenLocationError):
        resolve(str(tmp_path / "pipe"))


@pytest.mark.parametrize("place", ["simplecache::file:///etc/hostname", "ftp://h/x", "a\x00b", "file://host/x"])
def test_forms_that_are_not_allowed_are_refused(place: str) -> None:
    with pytest.raises(ForbiddenLocationError):
        resolve(place)


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        resolve(str(tmp_path / "nothing.csv"))


def test_a_remote_folder_is_listed_with_sizes() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe({"/box/b.csv": b"123", "/box/sub/a.csv": b"1", "/box/.hidden": b"1"})
    try:
        source = resolve("memory://box")
        assert [(f.name, f.size) for f in source.files] == [("b.csv", 3), ("sub/a.csv", 1)]
    finally:
        fs.rm("/box", recursive=True)


@pytest.mark.parametrize(
    ("name", "text", "spdx"),
    [
        ("README.md", "---\nlicense: cc-by-sa-4.0\n---\n", "CC-BY-SA-4.0"),
        ("LICENSE", "Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("datapackage.json", '{"licenses": [{"name": "CC0-1.0"}]}', "CC0-1.0"),
        ("croissant.json", '{"license": "https://creativecommons.org/licenses/by/4.0/"}', "CC-BY-4.0"),
        ("LICENSE", "All rights are mine", "NOASSERTION"),
    ],
)
def test_the_licence_comes_from_what_the_source_states(tmp_path: Path, name: str, text: str, spdx: str) -> None:
    (tmp_path / name).write_text(text)
    assert resolve(str(tmp_path)).license == spdx


CONTENT = {"data.csv": b"text,label\nhello there,1\nhello again,2\n", "README.md": b"# Words\n"}


class Hub(BaseHTTPRequestHandler):
    """The hub's endpoints that a listing needs, and the content of its one file."""

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self.content()
            return
        if "/tree/" in self.path:
            sizes = {name: len(data) for name, data in CONTENT.items()}
            self.answer(200, [{"type": "file", "oid": "b" * 40, "size": n, "path": p} for p, n in sizes.items()])
            return
        path = self.path.partition("?")[0].replace("%2F", "/").removeprefix("/api/datasets/")
        repo, _, rest = path.partition("/revision/")
        repo = repo.removesuffix("/refs")
        code = {"o/gated": "GatedRepo", "o/none": "RepoNotFound"}.get(repo)
        if repo == "o/down":
            self.answer(503, {})
        elif code:
            self.answer(403 if code == "GatedRepo" else 404, {"error": "no"}, code)
        elif path.endswith("/refs"):
            refs = [{"name": "parquet", "ref": "refs/convert/parquet", "targetCommit": "c" * 40}]
            self.answer(200, {"branches": [], "tags": [], "converts": refs if repo == "o/plain" else []})
        else:
            files = {"o/empty": ["README.md"], "o/script": ["script.py", "README.md"]}.get(
                repo, ["data.csv", "README.md"]
            )
            sha = "a" * 40
            if rest == "refs/convert/parquet":
                files, sha = ["default/train/0000.parquet"], "c" * 40
            siblings = [{"rfilename": f, "size": 7, "blobId": "b" * 40} for f in files]
            card = {"license": "mit"}
            self.answer(
                200,
                {
                    "id": repo,
                    "sha": sha,
                    "siblings": siblings,
                    "cardData": card,
                    "tags": [],
                    "private": False,
                },
            )

    def content(self) -> None:
        name = self.path.rpartition("/")[2]
        repo = self.path.split("/")[3] if name == "data.csv" else ""
        if repo == "gone":
            self.answer(404, {"error": "no"}, "EntryNotFound")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT[name])))
        self.end_headers()
        self.wfile.write(CONTENT[name])
        self.close_connection = True

    def answer(self, status: int, body: Any, code: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    HfFileSystem = pytest.importorskip("huggingface_hub").HfFileSystem
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    HfFileSystem.clear_instance_cache()  # one of an earlier server
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.chdir(tmp_path)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_a_hub_id_is_pinned_and_read_from_its_parquet_conversion() -> None:
    source = resolve("o/plain", options={"split": "train"})
    assert source.revision == "c" * 40
    assert source.license == "MIT"
    assert source.name == "plain"
    assert [f.name for f in source.files] == ["default/train/0000.parquet"]
    assert source.files[0].path == f"hf://datasets/o/plain@{'c' * 40}/default/train/0000.parquet"
    assert source.options == {"split": "train", "layout": "hub-parquet"}


@pytest.mark.usefixtures("hub")
def test_a_hub_id_without_conversion_is_read_from_its_own_files() -> None:
    source = resolve("hf://datasets/o/other")
    assert source.revision == "a" * 40
    assert [f.name for f in source.files] == ["README.md", "data.csv"]


@pytest.mark.usefixtures("hub")
def test_a_file_of_the_hub_is_added_from_its_pinned_commit(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, "o/other"))
    assert (done.entry.kind, done.rows, done.entry.license) == ("classification", 2, "MIT")
    assert open_revision(home, done.entry.revision).about["source_revision"] == "a" * 40


@pytest.mark.usefixtures("hub")
def test_a_file_of_the_hub_that_is_gone_is_an_error_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"hf://datasets/o/gone@a{40}/data\.csv"):
        prepare(Home(tmp_path / "home"), "o/gone")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("o/gated", PermissionDeniedError, "o/gated needs accepted terms"),
        ("o/none", SourceNotFoundError, "neither a local path nor a dataset of the hub"),
        ("o/empty", SourceNotFoundError, "no data files any more"),
        ("o/script", SourceFormatError, "ships a loading script, script.py, which is never run"),
        ("o/down", UnavailableError, "answered 503"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(name: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        resolve(name)


def test_a_hub_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="can't be reached"):
        resolve("o/plain")
