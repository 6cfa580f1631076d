"""Our own gRPC service, `choline_data.v1.FirehoseService`. Its handlers use `Calls`, as those of Flight and HTTP do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import InvalidOptionError, OutOfRangeError
from choline_data.places.claims import RunClaim
from choline_data.service import frames
from choline_data.service.auth import Principal
from choline_data.service.calls import Calls, view_options
from choline_data.service.engine import FIREHOSE, MAX_MESSAGE, MIN_MESSAGE
from choline_data.service.guard import CutError, IncomingRequest, parse, principal_of, streaming, unary
from choline_data.service.lane_requests import lane_of
from choline_data.service.open_stream import EndedByServer, Reading
from choline_data.service.opened import Opened
from choline_data.service.run_claims import claim_of
from choline_data.store import Entry
from choline_data.streams import wire
from choline_data.v1 import firehose_pb2 as pb
from choline_data.views import TooManyBytesError, read_positions

NAME = "choline_data.v1.FirehoseService"
PAGE, PAGES = 500, 5000
POSITIONS, IDS = 10_000, 1000


class Firehose:
    """The gRPC handlers of `choline_data.v1.FirehoseService`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._engine = calls.engine

    def handler(self) -> grpc.GenericRpcHandler:
        """Returns the handler to register with a gRPC server."""
        calls = self._calls
        methods = {
            "ListDatasets": unary(calls, self._list),
            "GetDataset": unary(calls, self._get),
            "ResolveMix": unary(calls, self._resolve),
            "GetSamples": unary(calls, self._samples),
            "ReadStream": streaming(calls, self._read),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def _list(self, raw: bytes, principal: Principal) -> bytes:
        request = parse(pb.ListDatasetsRequest, raw)
        if not 0 <= request.page_size <= PAGES:
            raise InvalidOptionError(
                f"page_size {request.page_size} is not valid.", remedy=f"Give 0 to {PAGES}.", option="page_size"
            )
        size = request.page_size or PAGE

        def list_datasets() -> bytes:
            left = [entry for entry in self._calls.list_datasets(principal) if entry.name > request.page_token]
            page, more = left[:size], len(left) > size
            response = pb.ListDatasetsResponse(
                datasets=[self._told(entry) for entry in page], next_page_token=page[-1].name if more else ""
            )
            return response.SerializeToString()

        return await self._engine.looking(list_datasets)

    async def _get(self, raw: bytes, principal: Principal) -> bytes:
        request = parse(pb.GetDatasetRequest, raw)

        def described() -> pb.Dataset:
            entry = self._calls.described(principal, request.name)
            answer = self._told(entry)
            for config, split, rows in self._engine.store.revision(entry.revision).splits():
                answer.splits.add(config=config, split=split, row_count=rows)
            return answer

        return pb.GetDatasetResponse(dataset=await self._engine.looking(described)).SerializeToString()

    @staticmethod
    def _told(entry: Entry) -> pb.Dataset:
        return pb.Dataset(
            name=entry.name,
            revision=entry.revision,
            kind=entry.kind,
            row_count=entry.rows,
            rejected_count=entry.rejected,
            size_bytes=entry.bytes,
            license=entry.license,
            tags=entry.tags,
        )

    async def _resolve(self, raw: bytes, principal: Principal) -> bytes:
        request = parse(pb.ResolveMixRequest, raw)

        def resolved() -> bytes:
            recipe = self._calls.resolved(
                principal,
                request.mix,
                seed=request.seed,
                shuffle=not request.in_source_order,
                view=request.view or "samples",
                repeat=request.repeat,
                where=request.where,
                on_exhausted=request.on_exhausted or "renormalize",
                unit=request.unit,
                options=view_options(request.view_options),
            )
            opened = self._engine.open(recipe, request.columns)
            length = opened.stream.length
            return pb.ResolveMixResponse(
                recipe_json=recipe.to_json(),
                recipe_digest=recipe.digest,
                serialized_schema=opened.schema_bytes,
                position_count=-1 if length is None else length,
                mean_row_bytes=int(opened.stream.mean_row_bytes()),
            ).SerializeToString()

        return await self._engine.opening(resolved)

    async def _read(self, incoming: IncomingRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        calls = self._calls
        principal = principal_of(calls, context)
        calls.enter(FIREHOSE, principal)
        try:
            connection = calls.turns.connection(context.peer())  # kept until the stream ends
            await connection.opening()
            reading, opened, claim = await self._begin(incoming, principal, lambda: principal_of(calls, context))

            async def alive() -> None:
                await reading.send(context.write, _beat(reading))

            claim_held = await calls.claims.take(claim, principal.id, alive)
            try:
                await self._serve(reading, opened, context)
            finally:
                calls.claims.leave(claim_held, sent_away=reading.end_reason is not EndedByServer.COMPLETE)
        finally:
            calls.leave_stream(FIREHOSE, principal)

    async def _begin(
        self, incoming: IncomingRequest, principal: Principal, recheck: Callable[[], Principal]
    ) -> tuple[Reading, Opened, RunClaim | None]:
        """Opens the stream of a request and prepares its reading from the first position. The memory of the request is
        freed when this returns.
        """
        async with incoming.received() as raw:
            return await self._begun_by(parse(pb.ReadStreamRequest, raw), principal, recheck)

    async def _begun_by(
        self, request: pb.ReadStreamRequest, principal: Principal, recheck: Callable[[], Principal]
    ) -> tuple[Reading, Opened, RunClaim | None]:
        limits = self._calls.limits
        target = request.target_message_bytes or limits.message_bytes
        if not MIN_MESSAGE <= target <= MAX_MESSAGE:
            raise InvalidOptionError(
                f"target_message_bytes {target} is not valid.",
                remedy=f"Give {MIN_MESSAGE} to {MAX_MESSAGE}, or 0.",
                option="target_message_bytes",
            )
        if request.max_row_count < 0:
            raise InvalidOptionError(
                f"max_row_count {request.max_row_count} is not valid.", remedy="Give 0 or more.", option="max_row_count"
            )
        lane = lane_of(request.rank, request.world_size, request.batch_size, request.base_position)
        claim = claim_of(request)
        opened, start = await self._engine.opening(self._opened_at, principal, request)
        most = request.max_row_count
        return Reading(self._calls, opened, lane, start, target=target, most=most, recheck=recheck), opened, claim

    def _opened_at(self, principal: Principal, request: pb.ReadStreamRequest) -> tuple[Opened, int]:
        """Returns the stream that a request asks for, and the position at which the stream begins."""
        opened = self._calls.opened(principal, request.recipe_json, request.recipe_digest, request.columns)
        recipe, length = opened.stream.recipe, opened.stream.length
        return opened, self._engine.start_of(recipe, length, request.cursor, request.start_position)

    async def _serve(self, reading: Reading, opened: Opened, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        length = opened.stream.length
        header = pb.StreamHeader(
            recipe_digest=opened.digest,
            serialized_schema=opened.schema_bytes,
            dataset_names=opened.stream.datasets,
            position_count=-1 if length is None else length,
            start_position=reading.start,
        )
        try:
            await reading.send(context.write, pb.ReadStreamResponse(header=header).SerializeToString())
            async for message in reading.batches_in_order():
                if message is None:
                    await reading.send(context.write, _beat(reading))
                    continue
                numbered = frames.with_sequence(message, reading.batches)
                await reading.send(context.write, numbered.frame, rows=message.rows)
            end = pb.StreamEnd(
                reason=pb.EndReason.ValueType(reading.end_reason.value),
                row_count=reading.rows,
                batch_count=reading.batches,
                cursor=reading.cursor,
            )
            self._calls.metrics.ends.labels(reading.end_reason.name).inc()
            await reading.send(context.write, pb.ReadStreamResponse(end=end).SerializeToString())
        except Exception as error:
            raise CutError(error, reading.cursor) from error

    async def _samples(self, raw: bytes, principal: Principal) -> bytes:
        request = parse(pb.GetSamplesRequest, raw)
        if bool(request.positions) == bool(request.ids):
            raise InvalidOptionError("A request has either positions or ids.", remedy="Set one of them.")
        if len(request.positions) > POSITIONS or len(request.ids) > IDS:
            raise InvalidOptionError(
                "The request asks for too many samples.",
                remedy=f"At most {POSITIONS} positions or {IDS} ids.",
            )
        work = self._at_positions if request.positions else self._by_ids
        return await self._engine.opening(work, principal, request)

    def _at_positions(self, principal: Principal, request: pb.GetSamplesRequest) -> bytes:
        opened = self._calls.opened(principal, request.recipe_json, "", request.columns)
        positions = np.array(request.positions, dtype=np.int64)
        length = opened.stream.length
        if positions.min() < 0 or (length is not None and positions.max() >= length):
            remedy = "Positions begin with 0." if length is None else f"It has {length} positions."
            raise OutOfRangeError("A position lies outside the stream.", remedy=remedy)
        return _samples(opened, _gather(opened, positions))

    def _by_ids(self, principal: Principal, request: pb.GetSamplesRequest) -> bytes:
        if any(len(sample) != 16 for sample in request.ids):
            raise InvalidOptionError(
                "An id of the request does not have 16 bytes.", remedy="Pass ids of samples.", option="ids"
            )
        entry = self._calls.readable(principal, request.dataset)
        whole = {entry.name: {"split": "all"}}
        recipe = self._calls.resolved(principal, whole, shuffle=False, repeat=False)
        opened = self._engine.open(recipe, request.columns)
        # This recipe has one source and no shuffling, so its positions are the row numbers.
        rows = self._calls.rows_of_ids(entry, request.ids)
        return _samples(opened, _gather(opened, rows[:POSITIONS]))


def _beat(reading: Reading) -> bytes:
    beat = pb.StreamHeartbeat(cursor=reading.cursor)
    return pb.ReadStreamResponse(heartbeat=beat).SerializeToString()


def _gather(opened: Opened, positions: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Returns the rows at these positions. Raises InvalidOptionError if the rows do not fit in one message."""
    try:
        return read_positions(opened.stream, positions, MAX_MESSAGE)
    except TooManyBytesError as error:
        raise _too_many_bytes("more than") from error


def _too_many_bytes(count: object) -> InvalidOptionError:
    return InvalidOptionError(
        f"The samples have {count} {MAX_MESSAGE} bytes, which is more than the limit of a message.",
        remedy="Ask for fewer, or for fewer columns.",
    )


def _samples(opened: Opened, batch: pa.RecordBatch) -> bytes:
    stream = opened.stream
    whole = wire.with_dictionaries(batch, stream.schema, wire.dictionaries(stream.datasets))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stream.schema) as writer:
        writer.write_batch(whole)
    encoded = sink.getvalue()
    if encoded.size > MAX_MESSAGE - 1024:
        raise _too_many_bytes("about")
    response = pb.GetSamplesResponse(serialized_stream=encoded.to_pybytes(), row_count=batch.num_rows)
    return response.SerializeToString()


__all__ = ["NAME", "EndedByServer", "Firehose"]
