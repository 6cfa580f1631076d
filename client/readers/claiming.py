"""What a dataset with a `run` claims: its rank of the run, for itself and its DataLoader workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch.utils.data

from choline_data.client.readers.reader import Chunk, Described, Reader
from choline_data.order.lanes import Lane
from choline_data.places.claims import CLAIMANT_BYTES, Claims, RunClaim, check_run


class Claimant:
    """Who reads: the same in copies of a dataset and in its DataLoader workers, another in every other process."""

    def __init__(self, run: str, peer: int) -> None:
        check_run(run)
        self.run, self.peer = run, peer
        self._process, self._name = os.getpid(), os.urandom(CLAIMANT_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": 0}

    def settle(self) -> None:
        """Becomes another claimant where this is another process, unless that is a worker of the one that made it."""
        if torch.utils.data.get_worker_info() is None and self._process != os.getpid():
            self._process, self._name = os.getpid(), os.urandom(CLAIMANT_BYTES)

    def claim(self, rank: int) -> RunClaim:
        """The claim on this rank."""
        self.settle()
        info = torch.utils.data.get_worker_info()
        return RunClaim(self.run, rank, self._name, 0 if info is None else info.id, self.peer)


class Claimed:
    """A reader of a home in this process, which has its claim while it reads."""

    def __init__(self, reader: Reader, claims: Claims, claim: RunClaim) -> None:
        self._reader, self._claims, self._claim = reader, claims, claim

    def describe(self) -> Described:
        """The stream's recipe, schema, dataset names and length."""
        return self._reader.describe()

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """The lane's samples; RankTakenError where another reader of the home has the claim."""
        with self._claims.held(self._claim):
            yield from self._reader.chunks(lane, index, count)

    def received_bytes(self, rows: int) -> int:
        """About what so many rows have."""
        return self._reader.received_bytes(rows)

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """The samples at these positions, which need no claim."""
        return self._reader.at(positions)

    def close(self) -> None:
        """Lets go of everything."""
        self._reader.close()
