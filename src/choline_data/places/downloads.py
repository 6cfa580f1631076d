"""Reads remote files. A temporary failure is retried. A file that ends early raises an error and is never returned short.

If a server does not support ranges, its file is read forward and kept in a temporary file, so that readers can seek back.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar, cast

from choline_data.errors import (
    CholineDataError,
    ForbiddenLocationError,
    PermissionDeniedError,
    SourceNotFoundError,
    SourceTooLargeError,
    UnavailableError,
    one_line,
)
from choline_data.places.locations import check_location, filesystem, local_path, redacted

WAITS = (0.1, 0.4, 1.6)  # seconds before each retry
BUFFER_BYTES = 256 << 10
KEPT_IN_MEMORY = 8 << 20
MAX_KEPT_BYTES = 8 << 30

T = TypeVar("T")


def opened(location: str) -> BinaryIO:
    """Opens a remote file for reading. The file is seekable."""
    return cast(BinaryIO, io.BufferedReader(_Remote(location), BUFFER_BYTES))


def persistently(location: str, ask: Callable[[], T], fault: str = "can't be reached") -> T:
    """Returns the result of `ask`. Retries a temporary failure after each of `WAITS`; raises a CholineDataError otherwise."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except CholineDataError:
            raise
        except Exception as error:
            told = remote_error(location, error, fault)
            if wait is None or not isinstance(told, UnavailableError):
                raise told from error
        time.sleep(wait)
    raise AssertionError


def remote_error(location: str, error: Exception, fault: str) -> CholineDataError:
    """Converts an error of a remote file system to a CholineDataError, by the server's HTTP status if there is one."""
    shown, status = redacted(location), _status(error)
    if status in (401, 403) or (not status and isinstance(error, PermissionError)):
        return PermissionDeniedError(f"{shown}: access is denied.", remedy="Log in, or give credentials for it.")
    if status in (404, 410) or (not status and isinstance(error, FileNotFoundError) and error.__cause__ is None):
        return SourceNotFoundError(f"{shown}: there is nothing at that address.", remedy="Check the address.")
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    why = f"the server answered {status}" if status else f"{type(cause).__name__}: {one_line(cause, 120)}"
    return UnavailableError(
        f"{shown} {fault} ({why}).", remedy="Check the network and try again; nothing was published."
    )


def _status(error: BaseException | None) -> int:
    """The HTTP status in an error or in its causes; 0 if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # botocore's
            response = SimpleNamespace(status=response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        for holder in (error, response):
            for name in ("status", "status_code", "code"):
                value = getattr(holder, name, None)
                # Ignore 400: the HTTP client itself reports a truncated body with this status.
                if isinstance(value, int) and 401 <= value < 600:
                    return value
        error = error.__cause__
    return 0


class _Remote(io.RawIOBase):
    """A file of a remote file system."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._at = 0
        self._file: Any = persistently(location, self._open)
        self._size: int | None = getattr(self._file, "size", None)
        self._forward: _Forward | None = None
        if self._size is None or not self._file.seekable() or "Streaming" in type(self._file).__name__:
            self._read_forward()

    def _open(self) -> Any:
        fs: Any
        fs, path = filesystem(self._location)
        return fs.open(path, "rb")

    def _read_forward(self) -> None:
        self._file.close()
        self._forward = _Forward(self._location)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next byte to read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Sets the position. Reads nothing, except to find the end of a file whose size the server does not state."""
        base = (0, self._at, self._end() if whence == 2 else 0)[whence]
        self._at = max(0, base + offset)
        return self._at

    def _end(self) -> int:
        if self._forward is None:
            assert self._size is not None
            return self._size
        return self._forward.end()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Reads the next bytes. Returns 0 only at the end of the file."""
        of = f" of {self._size:,}" if self._size is not None else ""
        data = persistently(
            self._location, lambda: self._read(len(buffer)), f"can't be read from byte {self._at:,}{of}"
        )
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, count: int) -> bytes:
        if self._forward is not None:
            return self._forward.read(self._at, count)
        if self._size is not None:
            count = min(count, self._size - self._at)
        if count <= 0:
            return b""
        try:
            if self._file is None:
                self._file = self._open()
            self._file.seek(self._at)
            data = bytes(self._file.read(count))
        except ValueError as error:
            if "range requests" not in str(error):
                raise
            self._read_forward()
            return self._read(count)
        except Exception:
            self._file = None  # its buffer may hold data of the failed request, so the next try opens the file again
            raise
        if not data:
            raise EOFError("the server sent less than it had said")
        return data

    def close(self) -> None:
        """Closes the connection and removes the temporary file."""
        for file in (self._file, self._forward) if not self.closed else ():
            if file is not None:
                file.close()
        super().close()


class _Forward:
    """A file of a server without range support: read once from its start, and kept so that a reader can seek back."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._kept: Any = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._have = 0
        self._stream: Any = None
        self._ended = False

    def read(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from `at`. First reads the file forward as far as needed."""
        while self._have < at + count and not self._ended:
            self._more()
        self._kept.seek(at)
        return bytes(self._kept.read(count))

    def end(self) -> int:
        """The size of the file in bytes. Reads the file to its end."""
        while not self._ended:
            persistently(self._location, self._more, f"can't be read from byte {self._have:,}")
        return self._have

    def _more(self) -> None:
        try:
            if self._stream is None:
                fs: Any
                fs, path = filesystem(self._location)
                self._stream = fs.open(path, "rb", block_size=0)
                self._pass_over(self._have)
            piece = self._stream.read(BUFFER_BYTES)
        except Exception:
            self._stream = None  # the stream is unusable after an error: the next try opens a new one
            raise
        if self._have + len(piece) > MAX_KEPT_BYTES:
            raise SourceTooLargeError(
                f"{redacted(self._location)}: the server does not answer range requests, and the file is larger than "
                f"{MAX_KEPT_BYTES:,} bytes.",
                remedy="Download it, and add the file.",
            )
        self._ended = not piece
        self._kept.seek(self._have)
        self._kept.write(piece)
        self._have += len(piece)

    def _pass_over(self, count: int) -> None:
        """Skips the bytes that are already kept. Raises EOFError if the server now sends fewer bytes than before."""
        while count > 0:
            got = len(self._stream.read(min(count, BUFFER_BYTES)))
            if not got:
                raise EOFError("the server sent less than it had before")
            count -= got

    def close(self) -> None:
        """Closes the connection and removes the temporary file."""
        self._hang_up()
        self._kept.close()

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def open_location(location: str) -> BinaryIO:
    """Opens the file for reading. A local path must be a regular file, not a device or a FIFO."""
    check_location(location)
    path = local_path(location)
    if path is not None:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ForbiddenLocationError(f"{path} is not a regular file.", remedy="Name a file or a folder of files.")
        return os.fdopen(fd, "rb")
    from choline_data.places.downloads import opened

    return opened(location)
