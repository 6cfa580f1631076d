"""Reads one file by HTTP, in any order, and never mixes bytes of two versions of the file.

The first answer pins the file: its size, ETag and Last-Modified. Each later answer must have the same values. An answer
that is shorter than announced is an error. If a server does not support ranges, the file is read from its start and
kept in a temporary file, so that readers can seek back. A file that is read in order to its end is compared with its
known checksum.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from email.message import Message
from typing import Any, Final

from choline_data.errors import CholineDataError, SourceDamagedError, SourceTooLargeError
from choline_data.places.locations import redacted
from choline_data.places.pins import FilePin, RunningChecksum, without_pin
from choline_data.places.web_requests import answer, body, check_status, refuse_page

FIRST_BYTES: Final = 256 << 10
MOST_BYTES: Final = 8 << 20
KEPT_IN_MEMORY: Final = 8 << 20
MAX_KEPT_BYTES = 8 << 30
_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_REFUSES_HEAD = frozenset({400, 401, 403, 405, 406, 500, 501})


def changed_error(location: str) -> SourceDamagedError:
    """Returns the error for a file whose content has changed since it was listed."""
    return SourceDamagedError(
        f"{redacted(location)} has changed since it was listed.", remedy="Add it again; nothing was published."
    )


def mismatch_error(location: str) -> SourceDamagedError:
    """Returns the error for a file whose checksum is not the known one."""
    return SourceDamagedError(
        f"{redacted(location)}: its content does not have the checksum that the hub states.",
        remedy="Try again; a proxy or a mirror may have sent something else.",
    )


def pin_of_answer(response: Any) -> FilePin:
    """Returns the size and the validators (ETag, Last-Modified) of the whole file, as an answer states them."""
    headers = response.headers
    span = _RANGE.match(headers.get("Content-Range", ""))
    total = span[3] if span else headers.get("Content-Length", "") if response.status_code == 200 else ""
    return FilePin(
        int(total) if total.isdigit() else -1,
        etag=headers.get("ETag", ""),
        modified=headers.get("Last-Modified", ""),
        charset=_charset(headers.get("Content-Type", "")),
    )


def _charset(content_type: str) -> str:
    """Returns the charset in a `Content-Type` header, or ""."""
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_charset("")


def request_pin(location: str) -> FilePin:
    """Requests the size and the validators of a file from the server, without the content."""
    with answer(location, "HEAD") as response:
        if response.status_code not in _REFUSES_HEAD:
            return pin_of_answer(check_status(location, response))
    with answer(location, Range="bytes=0-0") as response:
        if response.status_code == 416:  # the file is empty
            return FilePin(0)
        return pin_of_answer(check_status(location, response))


def combine_pins(location: str, known: FilePin, seen: FilePin) -> FilePin:
    """Combines two pins of one file. A value of `known` has priority over the same value of `seen`. Raises an error if
    they differ.
    """
    pairs = ((known.etag, seen.etag), (known.modified, seen.modified))
    if any(a and b and a != b for a, b in pairs) or (known.size >= 0 and seen.size >= 0 and known.size != seen.size):
        raise changed_error(location)
    return replace(
        known,
        size=max(known.size, seen.size),
        etag=known.etag or seen.etag,
        modified=known.modified or seen.modified,
        charset=known.charset or seen.charset,
    )


class WebFile(io.RawIOBase):
    """A file that is read by HTTP. Requests that fail temporarily are repeated (see `persistently`)."""

    def __init__(self, location: str, persistently: Callable[..., Any]) -> None:
        self._location, self._pin = without_pin(location)
        self._repeated = persistently
        self._at = 0
        self._block = b""
        self._block_at = 0
        self._span = FIRST_BYTES
        self._checked = 0  # how many bytes, from the start, the running checksum has covered so far
        self._sum = RunningChecksum(self._pin)
        self._forward: ForwardFile | None = None
        if not self._location.startswith("hf://"):
            self._pin = self._together(persistently(self._location, lambda: request_pin(self._location)))

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position of the next byte to read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Sets the position. Reads nothing, except to find the end of a file whose size the server does not state."""
        base = (0, self._at, self._end() if whence == 2 else 0)[whence]
        self._at = max(0, base + offset)
        return self._at

    def _end(self) -> int:
        if self._pin.size < 0 and self._forward is None:
            self._fetch(self._at)
        return self._forward.end() if self._forward is not None else self._pin.size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Reads the next bytes. Returns 0 only at the end of the file."""
        if self._forward is None and 0 <= self._pin.size <= self._at:
            return 0
        if self._forward is None and not self._block_at <= self._at < self._block_at + len(self._block):
            self._fetch(self._at)
        if self._forward is not None:
            data = self._forward.read(self._at, len(buffer))
        else:
            start = self._at - self._block_at
            data = self._block[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, at: int) -> None:
        """Reads the block that starts at this byte."""
        in_order = at == self._block_at + len(self._block)
        self._span = min(self._span * 2, MOST_BYTES) if in_order and at else FIRST_BYTES
        of = f" of {self._pin.size:,}" if self._pin.size >= 0 else ""
        self._repeated(self._location, lambda: self._try_request(at), f"can't be read from byte {at:,}{of}")
        if self._forward is None:
            self._check()

    def _try_request(self, at: int) -> None:
        try:
            self._request(at)
        except Exception:
            self._span = FIRST_BYTES  # some servers truncate long answers, but send short ones complete
            raise

    def _request(self, at: int) -> None:
        last = at + self._span - 1
        with answer(self._location, Range=f"bytes={at}-{last}") as response:
            check_status(self._location, response)
            if response.status_code == 416:
                self._pin = self._together(FilePin(at))
                self._block, self._block_at = b"", at
                return
            if not self._location.startswith("hf://"):
                self._pin = self._together(pin_of_answer(response))
            span = _RANGE.match(response.headers.get("Content-Range", ""))
            if response.status_code != 206 or span is None or int(span[1]) != at:
                self._forward = ForwardFile(self._location, self._pin, self._repeated)
                return
            if span[3] != "*":
                self._pin = self._together(FilePin(int(span[3])))
            size = int(span[2]) - at + 1
            data = b"".join(body(self._location, response, size))
            if len(data) != size:
                raise EOFError(f"the server sent {len(data):,} bytes, not the {size:,} that it had announced")
            if at == 0:
                refuse_page(self._location, response, data)
        self._block, self._block_at = data, at

    def _together(self, seen: FilePin) -> FilePin:
        return combine_pins(self._location, self._pin, seen)

    def _check(self) -> None:
        """Adds this block to the running checksum, if it follows the last added block. Compares the checksum at the end
        of the file.
        """
        if self._block_at != self._checked:
            return
        self._sum.add(self._block)
        self._checked += len(self._block)
        if self._checked == self._pin.size and not self._sum.matches():
            raise mismatch_error(self._location)

    def close(self) -> None:
        """Closes the connection and removes the temporary file."""
        if self._forward is not None:
            self._forward.close()
        super().close()


class ForwardFile:
    """A file on a server without ranges. It is read once from its start, and kept so that a reader can seek back."""

    def __init__(self, location: str, pin: FilePin, persistently: Callable[..., Any]) -> None:
        self._location = location
        self._pin = pin
        self._repeated = persistently
        self._kept: Any = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._have = 0
        self._pieces: Iterator[bytes] | None = None
        self._open = ExitStack()
        self._ended = False
        self._sum = RunningChecksum(pin)

    def read(self, at: int, count: int) -> bytes:
        """Returns up to `count` bytes from `at`. First reads the file forward as far as needed."""
        while self._have < at + count and not self._ended:
            self._more()
        self._kept.seek(at)
        return bytes(self._kept.read(count))

    def end(self) -> int:
        """Returns the size of the file in bytes. Reads the file to its end."""
        while not self._ended:
            self._more()
        return self._have

    def _more(self) -> None:
        of = f" of {self._pin.size:,}" if self._pin.size >= 0 else ""
        self._repeated(self._location, self._piece, f"can't be read from byte {self._have:,}{of}")

    def _piece(self) -> None:
        try:
            if self._pieces is None:
                self._start()
            assert self._pieces is not None
            piece = next(self._pieces, b"")
        except CholineDataError:
            raise
        except Exception:
            self._hang_up()  # After an error the connection is unusable. The next attempt opens a new one.
            raise
        if self._have + len(piece) > MAX_KEPT_BYTES:
            raise SourceTooLargeError(
                f"{redacted(self._location)}: the server does not answer range requests, and the file is larger than "
                f"{MAX_KEPT_BYTES:,} bytes.",
                remedy="Download it, and add the file.",
            )
        self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self._ended = not piece
        self._kept.seek(self._have)
        self._kept.write(piece)
        self._have += len(piece)
        self._sum.add(piece)
        if self._ended and not self._sum.matches():
            raise mismatch_error(self._location)

    def _start(self) -> None:
        """Sends the request. Skips the bytes that the temporary file already has."""
        response = self._open.enter_context(answer(self._location))
        check_status(self._location, response)
        seen = pin_of_answer(response)
        self._pin = combine_pins(self._location, self._pin, seen)
        self._pieces = body(self._location, response, seen.size if seen.size >= 0 else None)
        passed = 0
        while passed < self._have:
            piece = next(self._pieces, b"")
            if not piece:
                raise EOFError("the server sent fewer bytes than for an earlier request")
            self._kept.seek(passed)
            again = self._kept.read(min(len(piece), self._have - passed))
            if piece[: len(again)] != again:
                raise changed_error(self._location)
            passed += len(piece)
            if passed > self._have:
                self._keep(piece[len(again) :])
                return
        if not self._have:
            first = next(self._pieces, b"")
            refuse_page(self._location, response, first)
            if first:
                self._keep(first)

    def close(self) -> None:
        """Closes the connection and removes the temporary file."""
        self._hang_up()
        self._kept.close()

    def _hang_up(self) -> None:
        self._pieces = None
        self._open.close()
