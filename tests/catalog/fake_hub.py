"""A small hub for tests: answers as huggingface.co answers its client library, and can have each fault that the hub has."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CONVERTED = "refs/convert/parquet"
LFS_SUFFIXES = (".parquet", ".zip", ".tar", ".jpg", ".png")


@dataclass
class FakeRepo:
    """A dataset. `converted` holds the files of its Parquet conversion."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    modified: str = "2025-01-02T00:00:00.000Z"
    converted: dict[str, bytes] = field(default_factory=dict)
    converted_at: str = "2025-01-03T00:00:00.000Z"
    gated: str | bool = False
    closed: bool = False  # whether a gated dataset refuses its files to this client
    disabled: bool = False
    renamed_to: str = ""

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and the files of a revision."""
        for names, files in ((("main", ""), self.files), ((CONVERTED,), self.converted)):
            commit = commit_of(files)
            if files and (revision in names or revision == commit):
                return commit, files
        return None


def commit_of(files: dict[str, bytes]) -> str:
    """A commit hash that depends on the files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def blob_of(data: bytes) -> str:
    """The hash of a git blob."""
    return hashlib.sha1(b"blob %d\x00" % len(data) + data).hexdigest()


class FakeHub(ThreadingHTTPServer):
    """The hub. `fault` may answer a request itself: it gets the handler and the kind of the request."""

    request_queue_size = 64

    def __init__(self, repos: dict[str, FakeRepo], page: int = 1000) -> None:
        super().__init__(("127.0.0.1", 0), _Hub)
        self.repos = repos
        self.page = page
        self.asked: Counter[str] = Counter()  # requests by kind: info, refs, commits, tree, resolve, cdn
        self.fault: Callable[[_Hub, str], bool] = lambda handler, kind: False
        self.now = self.most_at_once = 0
        self.pause = 0.0  # of each download
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def listing(self) -> int:
        """The number of requests that were not downloads."""
        return sum(count for kind, count in self.asked.items() if kind not in ("resolve", "cdn"))


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api = re.match(r"^/api/datasets/([^/]+/[^/]+?)(?:/(refs|tree|commits|revision)(?:/(.*))?)?$", path)
        file = re.match(r"^/datasets/([^/]+/[^/]+)/resolve/(refs/convert/parquet|[^/]+)/(.+)$", path)
        kind = "cdn" if path.startswith("/cdn/") else "resolve" if file else "info"
        if api:
            kind = {"revision": "info", None: "info"}.get(api[2], api[2])
        with self.server.lock:
            self.server.asked[kind] += 1
        if self.server.fault(self, kind):
            return
        if kind == "cdn":
            self._cdn(path.rpartition("/")[2])
            return
        name = (api or file)[1] if api or file else ""
        repo = self.server.repos.get(name)
        if repo is None:
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
        elif repo.renamed_to:
            self.send(307, b"", {"Location": self.path.replace(name, repo.renamed_to)})
        elif file:
            self._file(repo, file[2], file[3])
        else:
            self._api(name, repo, kind, api[3] or "")

    def _api(self, name: str, repo: FakeRepo, kind: str, revision: str) -> None:
        at = repo.at(revision)
        if kind == "refs":
            converts = [{"name": "parquet", "ref": CONVERTED, "targetCommit": commit_of(repo.converted)}]
            main = [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit_of(repo.files)}]
            self.send_json({"branches": main, "tags": [], "converts": converts if repo.converted else []})
        elif at is None and repo.files:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif kind == "commits":
            date = repo.converted_at if at and at[1] is repo.converted else repo.modified
            commit = {"id": at[0] if at else "", "title": "Update", "message": "", "date": date}
            self.send_json([{**commit, "authors": [{"user": "someone"}]}])
        elif kind == "tree":
            self._tree(at[1] if at else {})
        else:
            commit, files = at or ("0" * 40, {})
            body = {"_id": "1", "id": name, "sha": commit, "lastModified": repo.modified, "private": False, "tags": []}
            body |= {"gated": repo.gated, "disabled": repo.disabled, "downloads": 0, "cardData": repo.card}
            self.send_json({**body, "siblings": [{"rfilename": file} for file in sorted(files)]})

    def _tree(self, files: dict[str, bytes]) -> None:
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        names = sorted(files)
        entries = []
        for file in names[start : start + self.server.page]:
            data = files[file]
            entry: dict[str, Any] = {"type": "file", "oid": blob_of(data), "size": len(data), "path": file}
            if file.endswith(LFS_SUFFIXES):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                entry["oid"] = blob_of(b"a pointer to " + file.encode())
            entries.append(entry)
        headers = {}
        if start + self.server.page < len(names):
            place = self.path.partition("?")[0]
            headers["Link"] = f'<{self.server.url}{place}?recursive=True&cursor={start + self.server.page}>; rel="next"'
        self.send_json(entries, headers)

    def _file(self, repo: FakeRepo, revision: str, path: str) -> None:
        at = repo.at(revision)
        if repo.gated and repo.closed:
            self.refuse(401, "GatedRepo", "Access to this dataset is restricted. You must have access to it.")
        elif at is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif path not in at[1]:
            self.refuse(404, "EntryNotFound", "Entry not found")
        elif path.endswith(LFS_SUFFIXES):
            sha256 = hashlib.sha256(at[1][path]).hexdigest()
            headers = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(at[1][path])), "X-Repo-Commit": at[0]}
            link = f"http://localhost:{self.server.server_port}/cdn/{sha256}?Expires=1800000000&Signature=s3cr3t"
            self.send(302, b"", {**headers, "Location": link})
        else:
            self._content(at[1][path], {"ETag": f'"{blob_of(at[1][path])}"', "X-Repo-Commit": at[0]})

    def _cdn(self, sha256: str) -> None:
        for repo in self.server.repos.values():
            for data in (*repo.files.values(), *repo.converted.values()):
                if hashlib.sha256(data).hexdigest() == sha256:
                    self._content(data, {"ETag": f'"{sha256}"'})
                    return
        self.send(404, b"")

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        with self.server.lock:
            self.server.now += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.now)
        time.sleep(self.server.pause)
        self.send_range(data, headers)
        with self.server.lock:
            self.server.now -= 1

    def send_range(self, data: bytes, headers: dict[str, str], *, cut: int = 0) -> None:
        """The bytes that the request asks for, without the last `cut` ones."""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, part = 200, data
        if span and int(span[1]) < len(data):
            first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        elif span:
            status, part, headers = 416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"}
        self.send(status, part, {"Accept-Ranges": "bytes", **headers}, cut=cut)

    def refuse(self, status: int, code: str, message: str) -> None:
        """An error as the hub sends it."""
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send(status, json.dumps({"error": message}).encode(), headers)

    def send_json(self, body: Any, headers: dict[str, str] | None = None) -> None:
        """An answer of the API."""
        self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: int = 0) -> None:
        """An answer. Its body lacks the last `cut` bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) - cut])
        self.close_connection = bool(cut)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving_hub(repos: dict[str, FakeRepo], page: int = 1000) -> Iterator[FakeHub]:
    """The hub while it runs."""
    hub = FakeHub(repos, page)
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
