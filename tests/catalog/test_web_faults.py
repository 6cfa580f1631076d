"""Faults of HTTP servers: a published file is complete and has one content, and each fault gets its own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.locate import resolve
from choline_data.errors import (
    PermissionDeniedError,
    SourceDamagedError,
    SourceFormatError,
    UnavailableError,
)
from choline_data.places import downloads, web_requests
from choline_data.places.home import Home
from choline_data.store import open_revision

pytest.importorskip("requests")

LINES = b"".join(b'{"text": "Line %06d of a file."}\n' % number for number in range(40_000))
PAGE = b"<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body>no</body></html>"


class Faulty(ThreadingHTTPServer):
    """A server that answers GET with `behave(handler, number of the request)`."""

    def __init__(self, behave: Callable[[_Answers, int], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.behave = behave
        self.count = 0

    def url(self, path: str = "a.jsonl") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def do_GET(self) -> None:
        self.server.count += 1
        self.server.behave(self, self.server.count)

    def do_HEAD(self) -> None:
        self.send(405, b"")

    def span(self) -> tuple[int, int]:
        first, _, last = self.headers.get("Range", f"bytes=0-{len(LINES)}").removeprefix("bytes=").partition("-")
        return int(first), min(int(last), len(LINES) - 1) + 1

    def send(self, status: int, data: bytes, size: int = -1, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if size < 0 else size))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def part(self, data: bytes = LINES, *, cut: int = 0, **headers: str) -> None:
        """The bytes that the client asks for. `cut` of them are missing."""
        first, end = self.span()
        span = f"bytes {first}-{end - 1}/{len(LINES)}"
        self.send(206, data[first : end - cut], end - first, Content_Range=span, **headers)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[_Answers, int], None]], Faulty]]:
    monkeypatch.setattr(downloads, "WAITS", (0.0, 0.0))
    servers = []

    def start(behave: Callable[[_Answers, int], None]) -> Faulty:
        server = Faulty(behave)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def add(tmp_path, url: str):
    return ingest(Home(tmp_path / "home"), prepare(Home(tmp_path / "home"), url, name="web"))


def nothing_was_published(tmp_path) -> bool:
    return not list(tmp_path.rglob("*.arrow"))


def test_a_file_is_read_whole_by_ranges(tmp_path, serve):
    server = serve(lambda handler, _: handler.part(ETag='"1"'))
    done = add(tmp_path, server.url())
    opened = open_revision(Home(tmp_path / "home"), done.entry.revision)
    texts = [text for batch in opened.read(0, opened.rows, ["text"]) for text in batch["text"].to_pylist()]
    assert texts == [f"Line {number:06} of a file." for number in range(40_000)]


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_file_that_changes_while_it_is_read_is_not_published(tmp_path, serve, header, at):
    """Both contents are valid and equally long, so only the validators tell them apart."""
    other = LINES.replace(b"of a", b"OF A")

    def behave(handler: _Answers, number: int) -> None:
        new = number >= at
        handler.part(other if new else LINES, **{header.replace("-", "_"): '"new"' if new else '"old"'})

    with pytest.raises(SourceDamagedError, match=r"/a\.jsonl has changed since it was listed"):
        add(tmp_path, serve(behave).url())
    assert nothing_was_published(tmp_path)


def test_the_pin_of_the_listing_holds_in_other_processes(serve):
    import pickle

    etag = ['"old"']
    server = serve(lambda handler, _: handler.part(ETag=etag[0]))
    source = pickle.loads(pickle.dumps(resolve(server.url())))
    etag[0] = '"new"'
    with pytest.raises(SourceDamagedError, match="has changed"), downloads.open_location(source.files[0].path) as file:
        file.read()


def test_a_file_that_changes_its_size_is_not_published(tmp_path, serve):
    def behave(handler: _Answers, number: int) -> None:
        first, end = handler.span()
        size = len(LINES) - (number > 2)
        handler.send(206, LINES[first:end], Content_Range=f"bytes {first}-{end - 1}/{size}")

    with pytest.raises(SourceDamagedError, match="has changed"):
        add(tmp_path, serve(behave).url())


def test_a_part_that_is_shorter_than_promised_is_not_published(tmp_path, serve):
    with pytest.raises(UnavailableError, match=r"can't be read from byte 0 of 1,400,000 .*(fewer bytes than|broke)"):
        add(tmp_path, serve(lambda handler, number: handler.part(cut=0 if number == 1 else 7)).url())
    assert nothing_was_published(tmp_path)


def test_a_server_whose_ranges_are_wrong_is_read_forward(tmp_path, serve):
    """The server answers each range with the first bytes, and says so only in Content-Range."""

    def behave(handler: _Answers, number: int) -> None:
        first, end = handler.span()
        handler.send(206, LINES[: end - first], Content_Range=f"bytes 0-{end - first - 1}/{len(LINES)}")

    with downloads.open_remote(serve(behave).url()) as file:
        file.seek(500_000)
        assert file.read() == LINES[500_000:]


def test_a_chunked_body_without_its_end_is_not_published(tmp_path, serve):
    def behave(handler: _Answers, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        half = LINES[: LINES.index(b"\n", len(LINES) // 2) + 1]  # ends with a whole line
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
        handler.close_connection = True

    with pytest.raises(UnavailableError, match="the connection broke"):
        add(tmp_path, serve(behave).url())
    assert nothing_was_published(tmp_path)


@pytest.mark.parametrize("drip", [False, True])
def test_a_server_that_falls_silent_is_reported_and_then_an_error(tmp_path, serve, monkeypatch, caplog, drip):
    assert web_requests.SILENT_SECONDS <= 9
    monkeypatch.setattr(web_requests, "SILENT_SECONDS", 0.3)

    def behave(handler: _Answers, number: int) -> None:
        if number == 1:
            handler.part()
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LINES)))
        handler.end_headers()
        for _ in range(40):
            time.sleep(0.05)
            if drip:
                try:
                    handler.wfile.write(b"{")
                except OSError:
                    return

    started = time.monotonic()
    with pytest.raises(UnavailableError, match="the server has sent nothing for"):
        add(tmp_path, serve(behave).url())
    assert time.monotonic() - started < 20
    assert "/a.jsonl: the server has sent nothing for" in caplog.text


@pytest.mark.parametrize("status", [200, 206])
def test_a_page_in_place_of_data_is_named(tmp_path, serve, status):
    def behave(handler: _Answers, number: int) -> None:
        more = {"Content_Range": f"bytes 0-{len(PAGE) - 1}/{len(PAGE)}"} if status == 206 else {}
        handler.send(status, PAGE, Content_Type="text/html; charset=utf-8", **more)

    with pytest.raises(SourceFormatError, match=r"a\.jsonl: the server sent an HTML page \('Please log in'\) instead"):
        add(tmp_path, serve(behave).url())


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(tmp_path, serve, monkeypatch, status):
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)

    def behave(handler: _Answers, number: int) -> None:
        if 2 <= number <= 7:  # more often than a failure without Retry-After is repeated
            handler.send(status, b"later", Retry_After="7")
        else:
            handler.part()

    assert add(tmp_path, serve(behave).url()).rows == 40_000
    assert [wait for wait in waits if wait >= 1] == [7.0] * 6


def test_a_pause_that_is_too_long_is_an_error(tmp_path, serve):
    with pytest.raises(UnavailableError, match="the server answered 429"):
        add(tmp_path, serve(lambda handler, _: handler.send(429, b"no", Retry_After="86400")).url())


def test_a_signed_link_that_has_expired_says_so(tmp_path, serve):
    server = serve(lambda handler, _: handler.send(403, b"<Error><Code>AccessDenied</Code></Error>"))
    with pytest.raises(PermissionDeniedError, match=r"/a\.jsonl: the link has expired") as caught:
        add(tmp_path, server.url("a.jsonl?X-Amz-Expires=3600&X-Amz-Signature=5ec2e7"))
    assert "5ec2e7" not in str(caught.value)


def test_an_empty_file_of_a_server_is_empty(serve):
    def behave(handler: _Answers, number: int) -> None:
        handler.send(416, b"", Content_Range="bytes */0")

    with downloads.open_remote(serve(behave).url()) as file:
        assert file.read() == b""


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_the_charset_of_the_answer_is_the_encoding(tmp_path, serve, name):
    words = "Zażółć gęślą jaźń a potem odpocznij przy herbacie."
    data = {"a.txt": f"{words}\n", "a.csv": f"n,text\n1,{words}\n2,{words}\n", "a.jsonl": f'{{"text": "{words}"}}\n'}[
        name
    ]
    kind = "text/plain; charset=windows-1250"
    server = serve(lambda handler, _: handler.send(200, data.encode("cp1250"), Content_Type=kind))
    done = add(tmp_path, server.url(name))
    opened = open_revision(Home(tmp_path / "home"), done.entry.revision)
    (batch,) = opened.read(0, opened.rows)
    stored = [row.get("text") or row["extra"] for row in batch.to_pylist()]
    assert stored and all(words in text for text in stored)
