"""HTTP requests for source files: where a file of the hub is, how long a server may be silent, and what its answers mean."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from choline_data.errors import (
    CholineDataError,
    MissingDependencyError,
    PermissionDeniedError,
    SourceFormatError,
    SourceNotFoundError,
    one_line,
)
from choline_data.places.locations import redacted

CONNECT_SECONDS: Final = 9.0
SILENT_SECONDS: Final = 8.0  # a server that sends nothing for this many seconds has stalled
LEAST_BYTES: Final = 1024  # bytes in SILENT_SECONDS; a server that sends fewer bytes has stalled too
PIECE_BYTES: Final = 256 << 10
LONGEST_WAIT: Final = 600.0  # seconds; if `Retry-After` is longer, the request fails at once

log = logging.getLogger("choline_data")
_HUB_FILE = re.compile(r"^hf://datasets/([^/@]+/[^/@]+)@([^/]+)/(.+)$", re.DOTALL)
_DATA = re.compile(
    r"\.(?:jsonl?|ndjson|csv|tsv|txt|parquet|arrow|feather|orc|avro|npy|npz|h5|hdf5|tar|tgz|zip|gz|zst|bz2|xz|7z|rar|db"
    r"|sqlite3?|yaml|jpe?g|png|webp|gif|tiff?|wav|flac|mp3|ogg|mp4|webm|mkv|pdf|xlsx?|warc|bin|pt|safetensors)$",
    re.IGNORECASE,
)
_PAGE = re.compile(rb"^\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<title[^>]*>\s*(.{0,300}?)\s*</title>", re.IGNORECASE | re.DOTALL)


class StalledError(OSError):
    """The error if a server has sent nothing, or almost nothing, for SILENT_SECONDS."""


class ShortAnswerError(EOFError):
    """The error if the body of an answer is shorter than the server had announced."""


def is_web(location: str) -> bool:
    """Returns whether this module can request the location: an HTTP URL, or a file of a hub dataset at a revision."""
    return location.lower().startswith(("http://", "https://")) or _HUB_FILE.match(location) is not None


def hub_endpoint() -> str:
    """Returns the address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def request_of(location: str) -> tuple[str, dict[str, str]]:
    """Returns the URL of a location, and the headers that its server needs."""
    headers = {"Accept-Encoding": "identity"}  # a compressed answer would have another length and another ETag
    hub = _HUB_FILE.match(location)
    if hub is None:
        return location, headers
    name, revision, path = hub.groups()
    url = f"{hub_endpoint()}/datasets/{name}/resolve/{quote(revision, safe='')}/{quote(path)}"
    try:
        from huggingface_hub.utils._headers import build_hf_headers
    except ImportError as error:
        raise MissingDependencyError("hub", "Reading hub datasets") from error
    return url, {**build_hf_headers(), **headers}


@lru_cache(maxsize=1)
def _session_of(process: int) -> Any:
    try:
        import requests
    except ImportError as error:
        raise MissingDependencyError("http", "Reading HTTP URLs") from error
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=32))
    return session


@contextmanager
def answer(location: str, method: str = "GET", **headers: str) -> Iterator[Any]:
    """Context manager: sends one request and gives the server's answer, whatever its status. The body is not read yet."""
    url, own = request_of(location)
    session = _session_of(os.getpid())  # a forked process must not use the sockets of its parent
    import requests

    try:
        response = session.request(
            method,
            url,
            headers={**own, **{key.replace("_", "-"): value for key, value in headers.items()}},
            stream=True,
            allow_redirects=True,
            timeout=(CONNECT_SECONDS, SILENT_SECONDS),
        )
    except requests.Timeout as error:
        raise _stalled_error(location) from error
    with response:
        yield response


def check_status(location: str, response: Any) -> Any:
    """Returns the response. Raises an error if its status is an error."""
    if response.status_code >= 400 and response.status_code != 416:
        stated = error_in_answer(location, response)
        if stated is not None:
            raise stated
        response.raise_for_status()
    return response


def error_in_answer(location: str, response: Any) -> CholineDataError | None:
    """Returns an error made from the error code that the hub puts into its answer. Returns None if the answer only has
    a status.
    """
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    shown = redacted(location)
    if code == "GatedRepo":
        return PermissionDeniedError(
            f"{shown} is gated: you must accept the terms of its owner.",
            remedy="Open the page of the dataset and accept them, then `hf auth login`.",
        )
    if code == "RepoNotFound":
        return SourceNotFoundError(
            f"{shown}: the hub has no such dataset, or you have no access to it.",
            remedy="Check the spelling; for a private dataset, run `hf auth login`.",
        )
    if code in ("EntryNotFound", "RevisionNotFound"):
        return SourceNotFoundError(f"{shown}: there is nothing at that address.", remedy="Check the address.")
    if status in (401, 403, 410) and _is_signed(response.url):
        return PermissionDeniedError(
            f"{shown}: the link has expired.", remedy="Signed links are valid for a short time; get a new one."
        )
    return None


def _is_signed(url: str) -> bool:
    keys = {key.lower() for key in parse_qs(urlsplit(url).query)}
    return bool(keys & {"x-amz-signature", "x-goog-signature", "signature", "sig", "expires", "x-amz-expires"})


def seconds_to_wait(response: Any) -> float | None:
    """Returns the `Retry-After` of an answer in seconds; it may be a number or a date. None if there is none."""
    stated = getattr(response, "headers", {}).get("Retry-After", "")
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", stated):
        return float(stated)
    try:
        return max(0.0, parsedate_to_datetime(stated).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def body(location: str, response: Any, size: int | None) -> Iterator[bytes]:
    """Yields the body of an answer in pieces.

    Raises StalledError if the server sends nothing more, and ShortAnswerError if it sends fewer than `size` bytes.
    """
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    received, since, before = 0, time.monotonic(), 0
    while True:
        try:
            piece = response.raw.read1(PIECE_BYTES)
        except ReadTimeoutError as error:
            raise _stalled_error(location) from error
        except HTTPError as error:
            raise ShortAnswerError(f"the connection broke after {received:,} bytes") from error
        if not piece:
            break
        received += len(piece)
        yield piece
        now = time.monotonic()
        if received - before >= LEAST_BYTES:
            since, before = now, received
        elif now - since > SILENT_SECONDS:
            raise _stalled_error(location)
    if size is not None and received < size:
        raise ShortAnswerError(f"the server sent fewer bytes than announced: {received:,} of {size:,} bytes")


def _stalled_error(location: str) -> StalledError:
    log.warning("%s: the server has sent nothing for %.0f seconds.", redacted(location), SILENT_SECONDS)
    return StalledError(f"the server has sent nothing for {SILENT_SECONDS:.0f} seconds")


def refuse_page(location: str, response: Any, head: bytes) -> None:
    """Raises SourceFormatError if the answer is an HTML page, but the name of the file says that it is data. `head` is
    the start of the body.
    """
    stated = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    path = urlsplit(location).path
    if not _DATA.search(path) or not (_PAGE.match(head) or (stated == "text/html" and head.lstrip()[:1] == b"<")):
        return
    title = _TITLE.search(head)
    words = f" ({one_line(title[1].decode('utf-8', 'replace'), 80)!r})" if title else ""
    raise SourceFormatError(
        f"{redacted(location)}: the server sent an HTML page{words} instead of the file.",
        remedy="Open the address in a browser: it may be a login page or a viewer. Give the direct link to the file.",
    )
