"""Hand-written protobuf encoding, so that the bytes of a batch are copied only once.

It encodes `ReadStreamResponse` and Flight's `FlightData`. Tests parse the frames with generated code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.columns.ipc import Message
from choline_data.errors import InvalidOptionError


def varint(value: int) -> bytes:
    """Encodes a base-128 varint. Negative numbers are encoded like an int64 of protobuf."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Encodes a varint field. Returns no bytes for 0."""
    return varint(field << 3) + varint(value) if value else b""


def chunk(field: int, value: bytes | str) -> bytes:
    """Encodes a length-delimited field. Returns no bytes for an empty value."""
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw if raw else b""


def submessage(field: int, value: bytes) -> bytes:
    """Encodes an embedded message. It is written even if it is empty."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def parse_fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Parses a protobuf message from a peer.

    Returns the number and the value of each field. Raises InvalidOptionError if `raw` is not such a message.
    """
    at, size = 0, len(raw)

    def read_varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= size or shift > 63:
                raise InvalidOptionError("The request is not a protobuf message.", remedy="Check the client.")
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (1 << 64) - 1
            shift += 7

    while at < size:
        tag = read_varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, read_varint()
            continue
        if kind not in (1, 2, 5):
            raise InvalidOptionError("The request is not a protobuf message.", remedy="Check the client.")
        length = read_varint() if kind == 2 else 8 if kind == 1 else 4
        if length > size - at:
            raise InvalidOptionError("The request is not a protobuf message.", remedy="Check the client.")
        yield tag >> 3, raw[at : at + length]
        at += length


@dataclass(frozen=True)
class FramedMessage:
    """A gRPC message that is ready to send (`frame`), and its properties. `sequence` is the sequence number inside the
    message.
    """

    frame: bytes
    rows: int
    start: int  # the index of the first sample among the samples of the reader
    stop: int
    sequence: int
    body: tuple[int, int]  # where the encoded batch is in `frame`: first and last byte position
    first_position: int
    cursor: str
    checksum: int


def batch_frame(
    parts: Sequence[Any],
    *,
    size: int,
    rows: int,
    start: int,
    first_position: int,
    cursor: str,
    checksum: int,
    sequence: int,
) -> FramedMessage:
    """Encodes a `ReadStreamResponse` with a batch. `parts`, when joined, are the bytes of the encoded batch."""
    head = (
        number(2, rows)
        + number(3, first_position)
        + chunk(4, cursor)
        + b"\x29"  # field 5, of type fixed64
        + checksum.to_bytes(8, "little")
        + number(6, sequence)
        + b"\x0a"  # field 1: the batch
        + varint(size)
    )
    lead = b"\x12" + varint(len(head) + size) + head  # field 2 of the response: the message
    frame = b"".join((lead, *parts))
    body = (len(lead), len(lead) + size)
    return FramedMessage(frame, rows, start, start + rows, sequence, body, first_position, cursor, checksum)


def with_sequence(message: FramedMessage, sequence: int) -> FramedMessage:
    """Returns the message with this sequence number. Returns the same object if it already has that number."""
    if message.sequence == sequence:
        return message
    return batch_frame(
        [memoryview(message.frame)[slice(*message.body)]],
        size=message.body[1] - message.body[0],
        rows=message.rows,
        start=message.start,
        first_position=message.first_position,
        cursor=message.cursor,
        checksum=message.checksum,
        sequence=sequence,
    )


def flight_frame(message: Message, *, cursor: str) -> bytes:
    """Encodes a `FlightData` with a record batch, from the header of the Arrow message without its prefix, and the body."""
    header = message.header[8:]
    lead = varint(2 << 3 | 2) + varint(len(header)) + header + chunk(3, cursor)
    return b"".join((lead, varint(1000 << 3 | 2) + varint(message.body_size), *message.body))


def flight_message(message: pa.Message) -> bytes:
    """Encodes a `FlightData` with a schema or a dictionary."""
    body = message.body
    return chunk(2, message.metadata.to_pybytes()) + chunk(1000, body.to_pybytes() if body is not None else b"")
