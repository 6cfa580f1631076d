"""Wraps every gRPC handler: finds the principal, and turns errors into statuses. Handlers take and return raw bytes."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from choline_data import errors
from choline_data.places.locations import redacted
from choline_data.service import status
from choline_data.service.audit import CURRENT, RequestRecord
from choline_data.service.auth import Principal
from choline_data.service.calls import HELD_BYTES, Calls
from choline_data.service.limits import limit_error
from choline_data.service.peers import is_near

M = TypeVar("M", bound=Message)
Unary = Callable[[bytes, Principal], Awaitable[bytes]]


class CutError(Exception):
    """Wraps an error of a stream, together with the cursor to resume from."""

    def __init__(self, cause: BaseException, cursor: str) -> None:
        super().__init__()
        self.cause = cause
        self.cursor = cursor


def parse(kind: type[M], raw: bytes) -> M:
    """Parses a request of this type. Raises InvalidOptionError if the bytes are not such a request."""
    try:
        return kind.FromString(raw)
    except (DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise errors.InvalidOptionError(
            "The request is not a valid message for this method.", remedy="Check the client."
        ) from error


def principal_of(calls: Calls, context: grpc.aio.ServicerContext[Any, Any]) -> Principal:
    """Returns the principal that sent this request."""
    metadata = context.invocation_metadata() or ()
    if len(metadata) > 128:
        raise errors.InvalidOptionError("The request has more than 128 metadata keys.", remedy="Send fewer.")
    authorizations = [v if isinstance(v, str) else v.decode("latin-1") for k, v in metadata if k == "authorization"]
    auth = context.auth_context() or {}
    names = [v.decode("utf-8", "replace") for v in auth.get("x509_common_name", ())]
    return of_request(calls.gate.admit(authorizations, names, context.peer()))


def of_request(principal: Principal) -> Principal:
    """Returns the principal with a reference to its current request. Writes the principal's id into the record of the
    request, for the audit log.
    """
    request_in_progress = CURRENT.get()
    if request_in_progress is not None:
        request_in_progress.principal = principal.id
    return replace(principal, asked=request_in_progress)


def error_for(calls: Calls, error: BaseException, *, near: bool) -> errors.CholineDataError:
    """Returns the error that is sent to a peer.

    A peer on this machine (`near`) sees the location of the home. For other peers, it is replaced by the words "the
    home".
    """
    public_error = status.public(error)
    home, shown = calls.home.location, redacted(calls.home.location)
    if near:
        if public_error.reason == errors.UnknownDatasetError.reason:
            public_error.message = public_error.message.replace("in the catalog.", f"in the catalog of {shown}.")
            public_error.metadata["home"] = shown
    else:
        for place in (home, shown):
            public_error.message = public_error.message.replace(
                f"in the catalog of {place}.", "in the catalog."
            ).replace(place, "the home")
            public_error.remedy = public_error.remedy.replace(place, "the home")
            public_error.metadata = {
                key: value.replace(place, "the home") for key, value in public_error.metadata.items()
            }
    public_error.args = (f"{public_error.message} {public_error.remedy}".strip(),)
    return public_error


def forget(error: BaseException | None) -> None:
    """Drops the tracebacks of an error and its causes. A traceback refers to frames, and the frames refer to the request and the
    error itself.

    Python frees such a circle only at a garbage collection, which may come after many requests.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def fail(calls: Calls, context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> None:
    """Ends the call with the status of `error`. Only peers on this machine see a text that names the home."""
    cause, cursor = (error.cause, error.cursor) if isinstance(error, CutError) else (error, "")
    try:
        keys = (str(key) for key, _ in context.invocation_metadata() or ())
        public_error = error_for(calls, cause, near=is_near(context.peer(), keys))
        forget(error)
        forget(cause)
        calls.metrics.refusals.labels(public_error.reason).inc()
        request_in_progress = CURRENT.get()
        if request_in_progress is not None:
            calls.audit.record_refusal(request_in_progress, public_error)
        await status.abort(context, public_error, cursor=cursor)
    except grpc.aio.AbortError:
        raise
    except Exception as fault:  # Without this `except`, gRPC would send the text of the exception to the peer.
        status.LOG.error("an error could not be sent to the client: %s", status.redacted(repr(fault))[:500])
        await context.abort(grpc.StatusCode.INTERNAL, "The server has a fault; its log has the cause.")
        raise AssertionError("abort raises") from fault


class IncomingRequest:
    """The request of a call. It stays in the caller's memory until the server receives it.

    gRPC limits how many bytes of an unreceived request it takes from the connection. So a caller that the server refuses
    before `received`, or that waits for its turn, costs the server little memory.
    """

    def __init__(self, calls: Calls, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._calls = calls
        self._context = context

    @asynccontextmanager
    async def received(self) -> AsyncIterator[bytes]:
        """Receives the request and yields its bytes.

        Each connection receives few requests at once. A large request counts as one of them until the block ends.
        Raises LimitError if the request does not arrive within `stall` seconds, and RequestTooLargeError.
        """
        calls = self._calls
        connection = calls.turns.connection(
            self._context.peer()
        )  # the waiting requests of one connection share this time limit
        async with connection.receiving:
            request = await self._read()
            if len(request) >= HELD_BYTES:
                with calls.holding(len(request)):
                    calls.check_size(request)
                    yield request
                return
        calls.check_size(request)
        yield request

    async def _read(self) -> bytes:
        calls = self._calls
        wait = calls.waiting(calls.limits.stall)
        calls.track(wait)
        try:
            async with wait:
                request = await self._context.read()
        except TimeoutError:
            raise limit_error("stall", calls.limits.stall, "The caller does not send its request in time.") from None
        finally:
            calls.untrack(wait)
        if not isinstance(request, bytes):  # grpc.aio.EOF, which means that there is no request
            raise errors.InvalidOptionError("The call has no request.", remedy="Send one message.")
        return request


def unary(calls: Calls, work: Unary) -> grpc.RpcMethodHandler[Any, Any]:
    """Makes the gRPC handler of a method with one response. `work` returns the response."""

    async def respond(context: grpc.aio.ServicerContext[Any, Any], principal: Principal) -> bytes:
        async with IncomingRequest(calls, context).received() as request:
            with calls.call(context.peer()):
                return await work(request, principal)

    async def handle(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        CURRENT.set(RequestRecord(_action(work), context.peer()))
        try:
            principal = principal_of(calls, context)
            response = await respond(context, principal)
            with calls.call(context.peer()), calls.holding(len(response)):
                calls.grant(principal)
                await send_answer(calls, context, response)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: becomes a status, its text stays here
            if not _is_gone(context, error):
                await fail(calls, context, error)

    # On the wire, a stream of one message is the same as a single message. But only the handler of streams decides when it
    # receives the request, and sees when the caller takes the answer.
    return grpc.stream_stream_rpc_method_handler(handle)


async def send_answer(calls: Calls, context: grpc.aio.ServicerContext[Any, Any], response: bytes) -> None:
    """Sends an answer. Raises LimitError if the caller does not take the answer within `stall` seconds."""
    wait = calls.waiting(calls.limits.stall)
    calls.track(wait)
    try:
        async with wait:
            await context.write(response)
    except TimeoutError:
        raise limit_error("stall", calls.limits.stall, "The caller does not read its answer in time.") from None
    finally:
        calls.untrack(wait)


def _is_gone(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> bool:
    """Returns whether the caller is gone, so that it can't receive the error."""
    return context.cancelled() or type(error).__name__ == "ExecuteBatchError"


def _action(work: Callable[..., object]) -> str:
    """Returns the name of a method for the audit log: the handler's class and name, such as Firehose.read."""
    return getattr(work, "__qualname__", "call").replace("._", ".")


Streaming = Callable[[IncomingRequest, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[None]]


def streaming(calls: Calls, work: Streaming) -> grpc.RpcMethodHandler[Any, Any]:
    """Makes the gRPC handler of a method with many responses. `work` receives the request and writes the responses itself."""

    async def handle(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        new_request = RequestRecord(_action(work), context.peer())
        CURRENT.set(new_request)
        try:
            await work(IncomingRequest(calls, context), context)
            calls.audit.record_end(new_request, "ended")
        except asyncio.CancelledError:
            calls.audit.record_end(new_request, "cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - the edge: becomes a status, its text stays here
            cause = error.cause if isinstance(error, CutError) else error
            if _is_gone(context, cause):
                calls.audit.record_end(new_request, "cancelled")
                return
            await fail(calls, context, error)

    return grpc.stream_stream_rpc_method_handler(handle)
