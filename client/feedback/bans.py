"""Banned samples: every rank and worker leaves them out, in every epoch.

The recipe, the position and the set of banned ids determine what comes next. A state has all three, so a resumed stream
is the same on any machine. Positions do not change: a banned sample is skipped. If all samples of a rank in a step are
banned, the next sample that is not banned replaces them.
"""

from __future__ import annotations

import base64
import hashlib
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.client.readers.reader import Chunk, StreamDescription
from choline_data.errors import InvalidCursorError, InvalidOptionError
from choline_data.order.lanes import Ints

MOST = 128  # the largest number of banned ids: this many ids of 16 bytes fit into a state of 4 KiB
ID_BYTES = 16
Words = npt.NDArray[np.uint64]


class RunningPass(Protocol):
    """Interface of a pass that is being read. It has read samples ahead, so it is notified of each new ban."""

    def skip(self, steps: int) -> None:
        """Continues `steps` steps after the last step that was yielded."""


def id_bytes(one: object) -> bytes:
    """Converts an id to bytes. The id may be bytes or hexadecimal digits. Raises InvalidOptionError for anything else."""
    try:
        raw = one if isinstance(one, bytes) else bytes.fromhex(one) if isinstance(one, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES:
        raise InvalidOptionError(
            f"{one!r} is not the id of a sample.",
            remedy='Give sample["id"], or its 32 hexadecimal digits.',
            option="ids",
        )
    return raw


def id_words(ids: pa.Array) -> Words:
    """Converts a column of ids to two 64-bit numbers for each row."""
    width = ids.type.byte_width
    data = ids.buffers()[1]
    return np.frombuffer(data, np.uint64, len(ids) * 2, ids.offset * width).reshape(-1, 2)


class Bans:
    """The ids of the banned samples. A dataset and the loaders made from it share one object."""

    def __init__(self) -> None:
        self._set((), "")
        self._running: weakref.WeakSet[Any] = weakref.WeakSet()

    def _set(self, ids: Iterable[bytes], digest: str) -> None:
        self.ids = tuple(ids)
        self.digest = digest
        # Ids are found by their first 8 bytes, then compared in full. We assume that no two ids share their first 8 bytes.
        words = np.frombuffer(b"".join(self.ids), np.uint64).reshape(-1, 2)
        self._words = words[np.argsort(words[:, 0], kind="stable")]

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {"ids": self.ids, "digest": self.digest}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set(state["ids"], state["digest"])
        self._running = weakref.WeakSet()

    def watch(self, running: RunningPass) -> None:
        """Registers a pass to be notified when the ban list changes."""
        self._running.add(running)

    def add(self, ids: Iterable[object], stream: StreamDescription) -> None:
        """Adds these ids to the bans. Raises InvalidOptionError if there are too many for a state, or if the samples of the
        stream have no ids.
        """
        if "id" not in stream.schema.names:
            raise InvalidOptionError(
                f"Rows of the view {stream.recipe.view!r} hold several samples, and have no id.",
                remedy="Leave the samples out with `where=`, or skip the rows with skip(steps).",
                option="view",
            )
        if isinstance(ids, (bytes, str)):
            ids = [ids]
        banned = sorted({*self.ids, *map(id_bytes, ids)})
        if len(banned) > MOST:
            raise InvalidOptionError(
                f"{len(banned)} samples would be banned, but a state has room for {MOST}.",
                remedy="Leave them out with `where=`, add the dataset again without them, or skip them with skip(steps).",
                option="ids",
                limit=MOST,
            )
        self._replace(tuple(banned))

    def lift(self) -> None:
        """Removes all bans."""
        self._replace(())

    def _replace(self, ids: tuple[bytes, ...]) -> None:
        if ids == self.ids:
            return
        self._set(ids, hashlib.sha256(b"".join(ids)).hexdigest()[:12] if ids else "")
        for running in list(self._running):
            running.skip(0)

    def to_text(self) -> str:
        """Returns the digest and the ids as text, for a state."""
        return f"{self.digest}:{base64.b85encode(b''.join(self.ids)).decode()}" if self.ids else ""

    def load(self, state: Mapping[str, Any]) -> None:
        """Replaces the bans with those of the state."""
        text = state.get("banned", "")
        digest, _, packed = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            raw = base64.b85decode(packed) if text and len(packed) <= ID_BYTES * MOST * 5 // 4 else b""
        except ValueError:
            raw = b""
        if text and (not raw or len(raw) % ID_BYTES or hashlib.sha256(raw).hexdigest()[:12] != digest):
            raise InvalidCursorError("The state's banned ids are damaged.", remedy="Pass the result of state_dict().")
        self._replace(tuple(raw[at : at + ID_BYTES] for at in range(0, len(raw), ID_BYTES)))

    def rows(self, batch: pa.RecordBatch) -> Ints:
        """Returns the row numbers of the banned rows, in ascending order."""
        ids = id_words(batch["id"])
        at = np.searchsorted(self._words[:, 0], ids[:, 0])
        held = self._words[np.minimum(at, len(self._words) - 1)]
        rows: Ints = np.flatnonzero((held == ids).all(axis=1))
        return rows

    def split_at_bans(self, chunk: Chunk) -> list[Chunk]:
        """Yields the parts of the chunk that lie between its banned rows."""
        out = []
        start = 0
        for row in [*self.rows(chunk.batch).tolist(), chunk.batch.num_rows]:
            if row > start:
                out.append(part(chunk, start, row))
            start = row + 1
        return out


def part(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Returns rows start … stop-1 of a chunk."""
    return chunk.part(start, stop)
