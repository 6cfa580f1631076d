"""Reads remote files. A temporary failure is retried. A file that ends early raises an error and is never returned short."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar, cast

from choline_data.errors import (
    CholineDataError,
    ForbiddenLocationError,
    PermissionDeniedError,
    SourceNotFoundError,
    UnavailableError,
    one_line,
)
from choline_data.places.kept_files import kept_copy
from choline_data.places.locations import check_location, filesystem, local_path, redacted
from choline_data.places.pins import without_pin
from choline_data.places.web_files import WebFile
from choline_data.places.web_requests import LONGEST_WAIT, ShortAnswerError, StalledError, is_web, log, seconds_to_wait

WAITS = (0.1, 0.4, 1.6)  # seconds before each retry
BUFFER_BYTES = 256 << 10
LEAST_WAIT = 0.1  # a server may state a pause of 0 seconds again and again

T = TypeVar("T")


def open_remote(location: str) -> BinaryIO:
    """Opens a remote file for reading. The file is seekable."""
    place, _ = without_pin(location)
    raw = WebFile(location, persistently) if is_web(place) else _Remote(place)
    return cast(BinaryIO, io.BufferedReader(raw, BUFFER_BYTES))


def persistently(
    location: str,
    ask: Callable[[], T],
    fault: str = "can't be reached",
    *,
    convert: Callable[[Exception], CholineDataError] | None = None,
) -> T:
    """Returns the result of `ask`. Retries a temporary failure after each of the pauses `WAITS`. Raises a
    CholineDataError for other failures.

    `fault` says in words what went wrong. `convert` makes the error of a failure; the default is `remote_error`. If the
    server says how long to wait (`Retry-After`), waits that long. Such waits end after LONGEST_WAIT in total.
    """
    failures, waited = 0, 0.0
    while True:
        try:
            return ask()
        except CholineDataError:
            raise
        except Exception as error:
            final = convert(error) if convert is not None else remote_error(location, error, fault)
            stated = seconds_to_wait(getattr(error, "response", None))
            if not isinstance(final, UnavailableError):
                raise final from error
            if stated is None:
                failures += 1
            if failures > len(WAITS) or waited + (stated or 0) > LONGEST_WAIT:
                raise final from error
        wait = WAITS[failures - 1] if stated is None else max(stated, LEAST_WAIT)
        if stated is not None:
            waited += wait
            log.warning("%s: the server asks for a pause of %.0f seconds.", redacted(location), wait)
        time.sleep(wait)


def remote_error(location: str, error: Exception, fault: str) -> CholineDataError:
    """Converts an error of a remote file system to a CholineDataError. Uses the HTTP status of the server, if the error
    has one. `fault` says in words what went wrong.
    """
    shown, status = redacted(location), _status(error)
    if status in (401, 403) or (not status and isinstance(error, PermissionError)):
        return PermissionDeniedError(f"{shown}: access is denied.", remedy="Log in, or give credentials for it.")
    if status in (404, 410) or (not status and isinstance(error, FileNotFoundError) and error.__cause__ is None):
        return SourceNotFoundError(f"{shown}: there is nothing at that address.", remedy="Check the address.")
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    words = one_line(cause, 120)
    kind = "" if isinstance(cause, StalledError | ShortAnswerError) else f"{type(cause).__name__}: "
    why = f"the server answered {status}" if status else kind + words
    return UnavailableError(
        f"{shown} {fault} ({why}).", remedy="Check the network and try again; nothing was published."
    )


def _status(error: BaseException | None) -> int:
    """Returns the HTTP status in an error or in its causes; 0 if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # a response as botocore represents it
            response = SimpleNamespace(status=response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        for holder in (error, response):
            for name in ("status", "status_code", "code"):
                value = getattr(holder, name, None)
                # The HTTP client itself reports a truncated body with the status 400, so 400 says nothing about the server.
                if isinstance(value, int) and 401 <= value < 600:
                    return value
        error = error.__cause__
    return 0


class _Remote(io.RawIOBase):
    """A file of an object store, which states the size of the file and supports ranged reads."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._at = 0
        self._file: Any = persistently(location, self._open)
        self._size = int(self._file.size)

    def _open(self) -> Any:
        fs: Any
        fs, path = filesystem(self._location)
        return fs.open(path, "rb")

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
        """Sets the position. Reads nothing."""
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Reads the next bytes. Returns 0 only at the end of the file."""
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        fault = f"can't be read from byte {self._at:,} of {self._size:,}"
        data = persistently(self._location, lambda: self._read(count), fault)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, count: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._open()
            self._file.seek(self._at)
            data = bytes(self._file.read(count))
        except Exception:
            # the buffer of the open file may hold data of the failed request, so the next attempt opens the file again
            self._file = None
            raise
        if not data:
            raise EOFError("the server sent fewer bytes than it had announced")
        return data

    def close(self) -> None:
        """Closes the connection."""
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()


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
    local_copy = kept_copy(location)
    return open(local_copy, "rb") if local_copy is not None else open_remote(location)
