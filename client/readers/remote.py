"""Reads from servers, one stream at a time. A broken stream continues on another address at the exact next sample."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.client.readers.connection import CALL_SECONDS, Connection, Endpoint, Patience, call_server, error_of
from choline_data.client.readers.reader import Chunk, StreamDescription
from choline_data.columns.arrow_values import numbers
from choline_data.errors import (
    CholineDataError,
    RecipeMismatchError,
    SourceDamagedError,
    TransientError,
    UnavailableError,
)
from choline_data.order.lanes import Lane
from choline_data.order.recipe import Recipe
from choline_data.places.claims import RunClaim
from choline_data.streams import wire

_DAMAGED_TRIES = 3
_AT_ONCE = 256
# Packed rows are cheap to make, so the fixed cost of a message is most of the cost. Fewer, larger messages cost less.
_TOKENS_MESSAGE = 2 << 20


def resolve_on_server(
    endpoint: Endpoint,
    mix: object,
    settings: Mapping[str, Any],
    tokens: Mapping[str, Any],
    columns: Sequence[str] | None,
) -> tuple[Recipe, StreamDescription]:
    """Asks a server to resolve a mix, and closes the channel at once. A Recipe is returned unchanged."""
    from choline_data.mix import parse_mix
    from choline_data.v1 import firehose_pb2 as pb

    if isinstance(mix, Recipe):
        return mix, _describe_by_sample(endpoint, mix, columns)
    text = mix if isinstance(mix, str) else parse_mix(mix, files=True).to_text()
    request = pb.ResolveMixRequest(
        mix=text,
        seed=settings.get("seed", 0),
        in_source_order=not settings.get("shuffle", True),
        view=settings.get("view", "samples"),
        repeat=settings.get("repeat", True),
        where=settings.get("where", ""),
        on_exhausted=settings.get("on_exhausted", ""),
        unit=settings.get("unit", ""),
        view_options={key: str(value) for key, value in tokens.items()},
        columns=list(columns or ()),
    )
    answer = _call_once(endpoint, "ResolveMix", request)
    recipe = Recipe.from_json(answer.recipe_json)
    if recipe.digest != answer.recipe_digest:
        raise RecipeMismatchError(
            "The server's recipe does not have the digest that the server states.",
            remedy="Use the same release on both sides.",
        )
    return recipe, _description_of(recipe, answer.serialized_schema, answer.position_count)


def _call_once(endpoint: Endpoint, method: str, request: Any) -> Any:
    """Makes one call over a channel of its own, and returns the answer."""
    connection = Connection(endpoint)

    def ask(stub: Any, seconds: float) -> Any:
        return getattr(stub, method)(request, timeout=seconds, metadata=connection.metadata())

    try:
        return call_server(connection, ask, min(endpoint.budget, CALL_SECONDS))
    finally:
        connection.close()


def _description_of(recipe: Recipe, schema: bytes, count: int) -> StreamDescription:
    datasets = tuple(sorted({s.dataset for s in recipe.sources}))
    length = recipe.plan().length
    if count != (-1 if length is None else length):
        raise SourceDamagedError(
            f"The server states that the stream has {count} positions; its recipe has {length}.", remedy=wire.REPEATED
        )
    return StreamDescription(recipe, _schema(schema), datasets, length)


def _describe_by_sample(endpoint: Endpoint, recipe: Recipe, columns: Sequence[str] | None) -> StreamDescription:
    """Describes the stream of a recipe that the server did not resolve.

    Requests the first sample, because its message contains the schema.
    """
    from choline_data.v1 import firehose_pb2 as pb

    request = pb.GetSamplesRequest(recipe_json=recipe.to_json(), positions=[0], columns=list(columns or ()))
    answer = _call_once(endpoint, "GetSamples", request)
    length = recipe.plan().length
    # An Arrow IPC stream has its schema before its samples.
    return _description_of(recipe, answer.serialized_stream, -1 if length is None else length)


def _schema(raw: bytes) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.py_buffer(raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceDamagedError(
            "The server's schema can't be read.", remedy="Use the same release on both sides."
        ) from error


class RemoteReader:
    """Reads a stream from servers. Only one thread at a time may use it, but any thread may call `close`."""

    def __init__(
        self,
        endpoint: Endpoint,
        described: StreamDescription,
        columns: Sequence[str] | None,
        claim: RunClaim | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._description_of = described
        self._wire_schema = wire.schema_on_the_wire(described.schema)
        self._decoder = wire.Decoder(self._wire_schema)
        self._columns = list(columns or ())
        self._claim = claim
        self._connection = Connection(endpoint)
        self._call: Any = None
        self._closed = 0
        self._waiting_since: float | None = None
        self.retries = 0
        self.received = 0

    def describe(self) -> StreamDescription:
        """Returns the stream's recipe, schema, dataset names and length."""
        return self._description_of

    def received_bytes(self, rows: int) -> int:
        """Returns the number of bytes of all received messages, including messages that were read ahead."""
        del rows
        return self.received

    def check(self) -> None:
        """Cancels a stream that has stalled, so that the reader continues with another address. Another thread calls
        this method.
        """
        since, call = self._waiting_since, self._call
        if since is not None and call is not None and time.monotonic() - since > self.endpoint.stall:
            call.cancel()

    def cancel(self) -> None:
        """Ends the open stream. Takes no lock and never waits, so finalizers may call it in any thread."""
        self._closed += 1
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Ends the open stream and closes the channel."""
        self.cancel()
        self._connection.close()

    def pause(self) -> bool:
        """Closes the channel before a fork, when no stream is open. The next call opens another."""
        self._connection.close()
        return True

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """Yields the lane's samples from number `index` on. If a server fails, continues on another address."""
        import grpc

        length = self._description_of.length
        if length is not None:
            rest = max(lane.below(length) - index, 0)
            count = rest if count is None else min(count, rest)
        end = None if count is None else index + count
        generation = self._closed
        patience = Patience(self._connection, lambda: self._closed != generation, self.endpoint.budget)
        damaged = 0
        while (end is None or index < end) and self._closed == generation:
            first_index = index
            try:
                for chunk in self._once(lane, index, end):
                    index += chunk.batch.num_rows
                    damaged = 0
                    patience.progress()
                    yield chunk
                if index == first_index:
                    raise UnavailableError("The server ended the stream before its first sample.")
            except grpc.RpcError as raised:
                # The call is the exception itself, and its traceback refers to frames that refer to the call. Without this line,
                # the messages in these frames stay in memory until Python collects garbage.
                raised.__traceback__ = None
                error = error_of(raised)
                if self._closed != generation:
                    return
                if not isinstance(error, TransientError):
                    raise error from None
                patience.wait(error)
                self.retries += 1
            except SourceDamagedError as error:
                damaged += 1
                if damaged >= _DAMAGED_TRIES:
                    raise
                patience.wait(error)
                self.retries += 1
            except (UnavailableError, ValueError) as error:
                # grpcio raises ValueError if the channel was closed during the call
                if self._closed != generation:
                    return
                patience.wait(error if isinstance(error, UnavailableError) else UnavailableError(str(error)))
                self.retries += 1

    @contextmanager
    def _streaming(self, request: Any) -> Iterator[Any]:
        """Opens a call, and cancels and drains it on exit. Otherwise gRPC leaks the call, its channel and its threads."""
        import grpc

        stub = self._connection.stub()
        self._waiting_since = time.monotonic()
        self._call = call = stub.ReadStream(request, metadata=self._connection.metadata())
        try:
            yield call
        except BaseException as error:
            call.cancel()
            if isinstance(error, (grpc.RpcError, CholineDataError, GeneratorExit)):
                _heard_out(call)
            raise  # after a signal such as Ctrl-C, gRPC has released the call: do not drain it
        else:
            call.cancel()
            _heard_out(call)
        finally:
            self._call = None

    def _frames(self, call: Any) -> Iterator[Any]:
        while True:
            self._waiting_since = time.monotonic()
            try:
                frame = next(call)
            except StopIteration:
                return
            finally:
                self._waiting_since = None
            yield frame

    def _once(self, lane: Lane, index: int, end: int | None) -> Iterator[Chunk]:
        """Yields the chunks of one stream. Raises UnavailableError if the stream stops without its last message (the
        end frame).
        """
        from choline_data.v1 import firehose_pb2 as pb

        seen = lane.wider()
        rank, world, batch, base = seen.as_rank()
        recipe = self._description_of.recipe
        first = index if seen is lane else seen.below(lane.position(index))
        request = pb.ReadStreamRequest(
            recipe_json=recipe.to_json(),
            start_position=lane.position(index),
            rank=rank,
            world_size=world,
            batch_size=batch,
            columns=self._columns,
            max_row_count=0 if end is None or seen is not lane else end - index,
            target_message_bytes=_TOKENS_MESSAGE if recipe.view == "tokens" else 0,
        )
        if base:
            request.base_position = base
        if self._claim is not None:
            request.claim.CopyFrom(pb.ReaderClaim(**asdict(self._claim)))
        where = f"{self._connection.address}: stream"
        rows = batches = 0
        headed = False
        with self._streaming(request) as call:
            for frame in self._frames(call):
                kind = frame.WhichOneof("frame")
                if kind == "header":
                    self._check_header(frame.header, where)
                    headed = True
                elif kind == "batch" and headed:
                    chunk = self._chunk(frame.batch, seen, first + rows, batches, where)
                    rows += chunk.batch.num_rows
                    batches += 1
                    chunk = chunk if seen is lane else _own_rows(chunk, lane)
                    if chunk.batch.num_rows:
                        if end is not None and index + chunk.batch.num_rows > end:
                            yield Chunk(chunk.batch.slice(0, end - index), chunk.positions[: end - index])
                            return
                        index += chunk.batch.num_rows
                        yield chunk
                elif kind == "end":
                    if frame.end.row_count != rows or frame.end.batch_count != batches:
                        raise SourceDamagedError(
                            f"{where}: the last message states another number of samples or messages than arrived.",
                            remedy=wire.REPEATED,
                        )
                    if frame.end.reason == pb.END_REASON_COMPLETE and end is not None and index < end:
                        raise SourceDamagedError(
                            f"{where}: the server says that the stream is complete, but samples are missing.",
                            remedy=wire.REPEATED,
                        )
                    if frame.end.reason != pb.END_REASON_COMPLETE:
                        self._connection.advance()
                    return
            raise UnavailableError(f"{where} ended before its last message.")

    def _check_header(self, header: Any, where: str) -> None:
        described = self._description_of
        if header.recipe_digest != described.recipe.digest:
            raise RecipeMismatchError(
                f"{where}: the server sends another recipe than the requested one.",
                remedy="Use the same release on both sides.",
                expected=described.recipe.digest,
            )
        if tuple(header.dataset_names) != described.datasets or not _schema(header.serialized_schema).equals(
            described.schema
        ):
            raise SourceDamagedError(
                f"{where}: the schema or the dataset names do not belong to the recipe.", remedy=wire.REPEATED
            )

    def _chunk(self, message: Any, lane: Lane, index: int, sequence: int, where: str) -> Chunk:
        if message.sequence != sequence:
            raise SourceDamagedError(
                f"{where}: message {message.sequence} arrived, but message {sequence} was expected.",
                remedy=wire.REPEATED,
            )
        encoded = message.serialized_batch  # protobuf copies the bytes at each access, so access them once
        batch = self._decoder.decode(encoded, expected=message.checksum, where=where)
        self.received += len(encoded)
        positions = lane.positions(index, batch.num_rows)
        if not batch.num_rows or batch.num_rows != message.row_count or message.first_position != positions[0]:
            raise SourceDamagedError(
                f"{where}: {message.row_count} samples from position {message.first_position} arrived, but position "
                f"{lane.position(index)} was expected.",
                remedy=wire.REPEATED,
            )
        codes = numbers(batch["dataset"])
        if codes.min() < 0 or codes.max() >= len(self._description_of.datasets):
            raise SourceDamagedError(
                f"{where}: a message names a dataset that the recipe does not have.", remedy=wire.REPEATED
            )
        return Chunk(batch, positions)

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """Returns the samples at these positions, in this order."""
        from choline_data.v1 import firehose_pb2 as pb

        wanted = np.asarray(positions, dtype=np.int64)
        ascending, back = np.unique(wanted, return_inverse=True)
        parts: list[pa.RecordBatch] = []
        for start in range(0, len(ascending), _AT_ONCE):
            request = pb.GetSamplesRequest(
                recipe_json=self._description_of.recipe.to_json(),
                positions=ascending[start : start + _AT_ONCE].tolist(),
                columns=self._columns,
            )
            answer = call_server(
                self._connection,
                lambda stub, seconds, request=request: stub.GetSamples(  # type: ignore[misc]
                    request, timeout=seconds, metadata=self._connection.metadata()
                ),
                self.endpoint.budget,
            )
            parts += self._decoded(answer, len(request.positions))
        batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        return batch if np.array_equal(ascending, wanted) else batch.take(pa.array(back))

    def _decoded(self, answer: Any, count: int) -> list[pa.RecordBatch]:
        where = f"{self._connection.address}: samples"
        try:
            table = pa.ipc.open_stream(pa.py_buffer(answer.serialized_stream)).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SourceDamagedError(f"{where} can't be decoded.", remedy=wire.REPEATED) from error
        if table.num_rows != count or table.schema.names != self._wire_schema.names:
            raise SourceDamagedError(
                f"{where}: {table.num_rows} samples arrived, {count} were requested.", remedy=wire.REPEATED
            )
        return [self._coded(part) for part in table.to_batches()]

    def _coded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = wire.dictionaries(self._description_of.datasets)
        arrays = []
        for field in self._wire_schema:
            column = batch[field.name]
            if pa.types.is_dictionary(column.type):
                column = pa.compute.index_in(column.cast(pa.string()), pa.array(names[field.name])).cast(field.type)
            arrays.append(column)
        return pa.record_batch(arrays, schema=self._wire_schema)


def _heard_out(call: Any) -> None:
    import grpc

    # The iterator of a cancelled call ends before all events of the call have arrived, and grpcio has no public way to
    # receive the rest, so this uses private attributes. If grpcio gave up a call because of a message that it can't parse,
    # the core call continues: it must be cancelled there, or this loop would never end.
    state, consume = getattr(call, "_state", None), getattr(call, "_consume_next_event", None)
    below = getattr(call, "_call", None)
    if state is None or consume is None or below is None:
        return
    below.cancel(grpc.StatusCode.CANCELLED.value[0], "the stream is no longer read")
    while state.due:
        consume()


def _own_rows(chunk: Chunk, lane: Lane) -> Chunk:
    """Returns the rows of a chunk that this reader needs. The server sends a lane (a set of positions) that may be wider
    than ours.
    """
    mask = lane.holds(chunk.positions)
    return Chunk(chunk.batch.filter(pa.array(mask)), chunk.positions[mask])
