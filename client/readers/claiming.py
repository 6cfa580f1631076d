"""Keeps two processes from reading the same rank of a named training run (`run=`).

A process claims its rank before it reads, also for its DataLoader workers. The claim is stored in the home or in a
server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch.utils.data

from choline_data.client.readers.reader import Chunk, Reader, StreamDescription
from choline_data.order.lanes import Lane
from choline_data.places.claims import CLAIMANT_BYTES, Claims, RunClaim, check_run


class Claimant:
    """The identity of a process that claims ranks, as random bytes. Its DataLoader workers and copies of its dataset have
    the same identity. Other processes have other ones.
    """

    def __init__(self, run: str, peer: int) -> None:
        check_run(run)
        self.run, self.peer = run, peer
        self._process, self._name = os.getpid(), os.urandom(CLAIMANT_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": 0}

    def settle(self) -> None:
        """Creates a new identity if this is a new process, unless it is a DataLoader worker."""
        if torch.utils.data.get_worker_info() is None and self._process != os.getpid():
            self._process, self._name = os.getpid(), os.urandom(CLAIMANT_BYTES)

    def claim(self, rank: int) -> RunClaim:
        """Returns the claim of this process on this rank."""
        self.settle()
        info = torch.utils.data.get_worker_info()
        return RunClaim(self.run, rank, self._name, 0 if info is None else info.id, self.peer)


class ClaimingReader:
    """A reader of a local home that keeps the claim on its rank while it reads."""

    def __init__(self, reader: Reader, claims: Claims, claim: RunClaim) -> None:
        self._reader, self._claims, self._claim = reader, claims, claim

    def describe(self) -> StreamDescription:
        """Returns the stream's recipe, schema, dataset names and length."""
        return self._reader.describe()

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """Yields the samples of a reader. Raises RankTakenError if another process has the claim on this rank."""
        with self._claims.hold(self._claim):
            yield from self._reader.chunks(lane, index, count)

    def received_bytes(self, rows: int) -> int:
        """Returns the approximate size of `rows` rows in bytes."""
        return self._reader.received_bytes(rows)

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """Returns the samples at these positions. This needs no claim."""
        return self._reader.at(positions)

    def close(self) -> None:
        """Releases all resources."""
        self._reader.close()
