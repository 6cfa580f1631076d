"""The one place that turns errors into gRPC statuses: `google.rpc.Status` with an `ErrorInfo`.

The text of an exception that is not ours goes only to the server's log, under a request id. The peer gets only this id.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import time
import traceback
import uuid
from typing import Any

import grpc

# This is imported at the start, because when an error occurs, the process may be unable to open another file.
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from choline_data import errors

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
DOMAIN = "choline-data"
LOG = logging.getLogger("choline_data.service")

_CODES: dict[type[errors.CholineDataError], grpc.StatusCode] = {
    errors.UnknownDatasetError: grpc.StatusCode.NOT_FOUND,
    errors.RecipeMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfRangeError: grpc.StatusCode.OUT_OF_RANGE,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.RevisionGoneError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RankTakenError: grpc.StatusCode.ALREADY_EXISTS,
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ChoiceNeededError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DataError: grpc.StatusCode.DATA_LOSS,
    errors.HomeError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.MissingDependencyError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.TransientError: grpc.StatusCode.UNAVAILABLE,
}
# Names that come before a secret. `accessToken=…` and `api_key: …` match; `tiktoken:gpt2` and `monkey: …` do not.
_NAMES = (
    r"x-amz-[a-z-]+|signature|password|passwd|secret[a-z_-]*|(?-i:Token|TOKEN|Key|KEY)"
    r"|(?<![a-z])(?:sig|token|(?:api|access|auth|private)?key)"
)
# Placeholders that remedies of this package have in place of a secret.
_PLACEHOLDERS = r"(?!(?-i:TOKEN|NAME|FILE|PATH|VALUE|value)(?!\w)|…)"
_SECRETS = re.compile(
    rf"(?i)(?<=://)[^/\s@]+@|bearer\s+{_PLACEHOLDERS}\S+|(?-i:hf_[A-Za-z0-9]{{8,}})|AKIA\w{{12,}}(:\S+)?"
    rf"|(?:{_NAMES})[\"']?\s*[=:]\s*[\"']?{_PLACEHOLDERS}[^&\s\"',}}]+"
    r"|-----BEGIN [A-Z ]+-----[\s\S]*?-----END [A-Z ]+-----"
)


def redacted(text: str) -> str:
    """Returns `text` with `[redacted]` in place of everything that looks like a credential."""
    return _SECRETS.sub("[redacted]", text)


def code_of(error: errors.CholineDataError) -> grpc.StatusCode:
    """Returns the status code of one of our errors."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), grpc.StatusCode.INTERNAL)


def public(error: BaseException) -> errors.CholineDataError:
    """Returns the error as a peer may see it: one of our errors without secrets, or an InternalError with a request id.

    A shortage of memory or open files becomes a LimitError.
    """
    if isinstance(error, errors.CholineDataError):
        return errors.error_from_parts(
            error.reason,
            redacted(error.message),
            redacted(error.remedy),
            {key: redacted(value) for key, value in error.metadata.items()},
        )
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORT):
        SHORTAGE.found()
        return errors.LimitError(
            "The server can't open more files, or has no memory left.",
            remedy="Retry later, or raise `ulimit -n` on the server.",
            setting="open_files",
            limit="ulimit",
        )
    request = uuid.uuid4().hex[:16]
    text = redacted("".join(traceback.format_exception(error)))
    LOG.error("request %s: %s", request, errors.one_line(text, 8000))
    return InternalError(
        "The server has an internal error.",
        remedy=f"Its log has the cause under request {request}.",
        request_id=request,
    )


class Shortage:
    """Logs when the process can't open more files or has no memory left, at most once in QUIET_SECONDS."""

    QUIET_SECONDS = 60.0

    def __init__(self) -> None:
        self._said = -self.QUIET_SECONDS

    def found(self) -> None:
        """Logs that this error shows a shortage of files or memory."""
        now = time.monotonic()
        if now - self._said >= self.QUIET_SECONDS:
            self._said = now
            LOG.error(
                "The server can't open more files, or has no memory left: it waits, and open streams continue. Raise `ulimit -n`."
            )

    def of_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handles exceptions of an event loop. asyncio retries a failed `accept` each second, and would log each failure."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _SHORT:
            self.found()
        else:
            loop.default_exception_handler(context)


SHORTAGE = Shortage()


class InternalError(errors.CholineDataError):
    """An error in the server itself. The peer gets the request id, under which the log has the cause."""

    reason = "INTERNAL"


def details(error: errors.CholineDataError) -> bytes:
    """Returns the error as a serialized `google.rpc.Status`, for the trailer `grpc-status-details-bin`."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={**error.metadata, "message": error.message, "remedy": error.remedy},
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    whole = status_pb2.Status(code=code_of(error).value[0], message=str(error), details=[packed])
    return bytes(whole.SerializeToString())


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: BaseException, *, cursor: str = "") -> None:
    """Ends the call with this error; `cursor` goes into the trailers."""
    shown = public(error)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", details(shown))]
    if cursor:
        trailers.append(("choline-cursor", cursor))
    if isinstance(shown, errors.LimitError):
        trailers.append(("retry-after-ms", "1000"))
    await context.abort(code_of(shown), str(shown), tuple(trailers))
