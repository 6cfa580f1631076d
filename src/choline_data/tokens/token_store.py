"""Tokens of a revision: one flat array and the start of each document, made once for each (revision, tokenizer,
boundary).

The array includes the boundary tokens (begin or end of text), so a row of packing `concat` is one slice of it. Chats
also have an assistant mask, one byte per token. `meta.json` is written last and makes the tokens visible, so a process
that is killed leaves no incomplete tokens visible.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import DamagedStoreError, InvalidOptionError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.places.mapped import MappedFile
from choline_data.process.fault_points import reached
from choline_data.process.work import pause
from choline_data.store import Revision, derived, open_revision
from choline_data.store import sealed as sealing
from choline_data.store.leases import writing
from choline_data.store.manifest import missing_manifest
from choline_data.store.object_names import manifest_name
from choline_data.streams.rendering import render
from choline_data.tokens.allowed import stored_name
from choline_data.tokens.checked import PIECE_BYTES, Pieces, SummingFile, pieces_of
from choline_data.tokens.tokenizers import Tokenizer, Tokens

# is called with the numbers of documents and tokens that were tokenized since the last call
Progress = Callable[[int, int], None]
STEP_ROWS = 1024


@dataclass(frozen=True)
class TokenKey:
    """Everything that stored tokens depend on: revision, tokenizer and boundary."""

    revision: str
    tokenizer: str  # the digest of the tokenizer
    boundary: str

    @property
    def folder(self) -> str:
        """The folder of these tokens in the home."""
        name = hashlib.sha256(f"{self.tokenizer}/{self.boundary}".encode()).hexdigest()[:32]
        return f"tokens/{self.revision}/{name}"

    @property
    def marker(self) -> str:
        """The name of the object that marks these tokens as made on request."""
        return f"{self.folder}/{derived.ON_REQUEST}"


def _damaged(key: TokenKey, how: str = "") -> DamagedStoreError:
    return DamagedStoreError(
        f"The stored tokens of revision {key.revision[:12]}… are damaged ({key.folder}){': ' if how else ''}{how}.",
        remedy="Run `choline-data repair`.",
    )


def _recheck(pieces: dict[str, Pieces], name: str, _: pa.Buffer) -> str:
    """Verifies the pieces again that were verified before. Returns a description of the fault, or "" if there is none."""
    if name in pieces and pieces[name].hold():
        return ""
    return f"{name}.bin was changed while it was in use"


class TokenArray:
    """Stored tokens for reading. They are memory-mapped if the home is local."""

    def __init__(self, home: Home, key: TokenKey) -> None:
        self.key = key
        self.on_request = False
        self.local = home.local
        self.files: tuple[MappedFile, ...] = ()  # the files of the arrays; read the arrays only inside `steady`
        self._pieces: dict[str, Pieces] = {}
        try:
            meta = read_meta(home, key.folder)
            self.sealed = "sums" in meta
            self.documents = int(meta["documents"])
            self.tokens = int(meta["tokens"])
            self.dtype = np.dtype(meta["dtype"])
            self.masked = bool(meta["masked"])
            shapes = {"tokens": (self.dtype, self.tokens), "starts": (np.dtype("<i8"), self.documents + 1)}
            if self.masked:
                shapes["mask"] = (np.dtype("u1"), self.tokens)
            arrays = {name: self._array(home, name, dtype, count) for name, (dtype, count) in shapes.items()}
            if self.sealed:
                self._read_sums(home, meta, arrays)
        except (sealing.BrokenSealError, SourceNotFoundError, KeyError, TypeError, ValueError) as error:
            if not home.exists(manifest_name(key.revision)):
                raise missing_manifest(home, key.revision) from error
            raise self._damaged() from error
        self.flat: npt.NDArray[Any] = arrays["tokens"]
        self.starts: npt.NDArray[np.int64] = arrays["starts"]
        self.mask: npt.NDArray[np.uint8] | None = arrays.get("mask")
        if self.sealed:
            self._pieces["starts"].check_all()
            if not home.local:
                self.check_all()
        starts = self.starts
        if int(starts[0]) or int(starts[-1]) != self.tokens or (not self.sealed and (starts[1:] < starts[:-1]).any()):
            raise self._damaged()

    def _read_sums(self, home: Home, meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
        place = f"{self.key.folder}/sums.bin"
        raw = home.read(place)
        if sealing.checksum(place, raw) != meta["sums"] or meta["piece_bytes"] != PIECE_BYTES:
            raise self._damaged()
        sums = np.frombuffer(raw, "<u8")
        for name, array in arrays.items():
            count = pieces_of(array.nbytes)
            self._pieces[name] = Pieces(array, sums[:count], self._damaged)
            sums = sums[count:]

    def check(self, start: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> None:
        """Raises DamagedStoreError if one of these ranges of tokens is damaged. Each piece is checked only once."""
        try:
            for name in ("tokens", "mask"):
                if name in self._pieces:
                    self._pieces[name].check(start, length)
        except DamagedStoreError:
            for file in self.files:  # The next request opens the files again, because a repair may have replaced them.
                file.condemn("a piece does not have its checksum")
            raise

    def check_all(self) -> None:
        """Checks all pieces of all arrays."""
        for pieces in self._pieces.values():
            pieces.check_all()

    def _damaged(self) -> DamagedStoreError:
        return _damaged(self.key)

    def _array(self, home: Home, name: str, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        place = f"{self.key.folder}/{name}.bin"
        if home.size(place) != count * dtype.itemsize or count < 0:
            raise self._damaged()
        if not count:
            return np.empty(0, dtype)
        if not home.local:
            return np.frombuffer(home.read(place), dtype, count=count)
        mapped = home.map(place, partial(_damaged, self.key), partial(_recheck, self._pieces, name))
        self.files += (mapped,)
        return np.frombuffer(mapped.buffer, dtype, count=count)


def read_meta(home: Home, folder: str) -> dict[str, Any]:
    """Returns the `meta.json` of the tokens in this folder. Raises BrokenSealError if it is damaged."""
    name = f"{folder}/meta.json"
    return sealing.unseal_json(name, home.read(name), before=b'{"documents":')


def key_of(home: Home, folder: str) -> TokenKey:
    """Returns the key of the tokens in this folder, from their `meta.json`. Raises DamagedStoreError if it does not
    match the folder.
    """
    try:
        meta = read_meta(home, folder)
        key = TokenKey(folder.split("/")[1], str(meta["tokenizer"]), str(meta["boundary"]))
    except (sealing.BrokenSealError, KeyError) as error:
        raise damaged(folder) from error
    if key.folder != folder:
        raise damaged(folder)
    return key


def damaged(folder: str) -> DamagedStoreError:
    """Returns the error for damaged tokens in this folder."""
    return DamagedStoreError(f"The stored tokens in {folder} are damaged.", remedy="Run `choline-data repair`.")


def stored(home: Home, key: TokenKey) -> bool:
    """Whether these tokens are in the home."""
    return home.exists(f"{key.folder}/meta.json")


def is_incomplete(home: Home, key: TokenKey) -> bool:
    """Returns whether files of stored tokens are missing, as after an eviction while the tokens were made."""
    return bool(home.missing([f"{key.folder}/{name}.bin" for name in ("tokens", "starts", "sums")]))


def _batches(revision: Revision) -> Iterator[tuple[int, int]]:
    for start in range(0, revision.rows, STEP_ROWS):
        yield start, min(start + STEP_ROWS, revision.rows)


def _encode_rows(
    home: Home, digest: str, tokenizer: Tokenizer, boundary: str, start: int, stop: int
) -> tuple[Tokens, Any, Any]:
    """Tokenizes rows start … stop-1 of a revision. Returns their flat tokens, the document lengths, and for chats the
    assistant mask.
    """
    revision = _revision(home, digest)
    before, after = (np.asarray(t, np.uint32) for t in tokenizer.boundary(boundary))
    pieces: list[Tokens] = []
    masks: list[npt.NDArray[np.uint8]] = []
    lengths: list[int] = []
    for batch in revision.read(start, stop):
        documents, spoken = _texts(batch, revision.constants.get("kind", "text"))
        flat = tokenizer.encode([text for document in documents for text in document])
        at = 0
        for number, document in enumerate(documents):
            own = flat[at : at + len(document)]
            parts = [before, *own, after]
            at += len(document)
            pieces += parts
            lengths.append(sum(len(part) for part in parts))
            if spoken is not None:
                masks.append(np.zeros(len(before), np.uint8))
                masks += [
                    np.full(len(t), by_assistant, np.uint8) for t, by_assistant in zip(own, spoken[number], strict=True)
                ]
                masks.append(np.zeros(len(after), np.uint8))
    tokens = np.concatenate(pieces) if pieces else np.empty(0, np.uint32)
    mask = np.concatenate(masks) if masks else None
    return tokens, np.asarray(lengths, np.int64), mask


def _texts(batch: pa.RecordBatch, kind: str) -> tuple[list[list[str]], list[list[int]] | None]:
    """Returns each sample as a list of texts to tokenize in order, and for chats whether each text is spoken by the assistant."""
    if kind in ("chat", "preference") and "turns" in batch.schema.names:
        documents, spoken = [], []
        for turns in batch["turns"].to_pylist():
            texts, by_assistant = [], []
            for turn in turns or []:
                role = "assistant" if turn["role"] == "chosen" else turn["role"]
                if role == "rejected":
                    continue
                speaks = int(role == "assistant")
                texts += [f"<|im_start|>{role}\n", f"{turn['content'] or ''}<|im_end|>", "\n"]
                by_assistant += [0, speaks, 0]
            documents.append(texts)
            spoken.append(by_assistant)
        return documents, spoken
    return [[text or ""] for text in render(batch, kind=kind).to_pylist()], None


_OPENED: dict[tuple[str, str], Revision] = {}
_HELD: list[Tokenizer] = []  # only in worker processes: the tokenizer, which the parent sends once


def _revision(home: Home, digest: str) -> Revision:
    key = (home.location, digest)
    if key not in _OPENED:
        _OPENED.clear()
        _OPENED[key] = open_revision(home, digest)
    return _OPENED[key]


def _hold(tokenizer: Tokenizer) -> None:
    _HELD[:] = [tokenizer]


def _encoded_elsewhere(home: Home, digest: str, boundary: str, start: int, stop: int) -> tuple[Tokens, Any, Any]:
    return _encode_rows(home, digest, _HELD[0], boundary, start, stop)


def tokenize(
    home: Home,
    revision: str,
    tokenizer: Tokenizer,
    boundary: str = "eos",
    *,
    workers: int = 1,
    progress: Progress | None = None,
    on_request: bool = False,
) -> TokenArray:
    """Returns the stored tokens of a revision. Makes them if they are missing or damaged.

    With `on_request`, new tokens count against the home's quota and may be evicted. Without it, they are never evicted, even if
    they were made on request before.
    """
    key = TokenKey(revision, tokenizer.digest, boundary)
    if stored(home, key):
        with contextlib.suppress(DamagedStoreError):
            array = TokenArray(home, key)
            array.check_all()
            if not on_request:
                home.remove(key.marker)
            return array
    tokenizer.boundary(boundary)
    patience = derived.of(home).patience if on_request else derived.GC_SECONDS
    with writing(home, f"tokenize {revision[:12]}", patience=patience) as leased:
        if on_request:
            # The marker is written first, so that a concurrent `choline-data tokenize` of the same tokens can remove it.
            leased.put(key.marker, b"")
            reached("tokens.marked")
        _make(leased, key, tokenizer, workers, progress, on_request=on_request)
        if not on_request:
            leased.remove(key.marker)
    return TokenArray(home, key)


def _make(
    home: Home, key: TokenKey, tokenizer: Tokenizer, workers: int, progress: Progress | None, *, on_request: bool
) -> None:
    revision, boundary = key.revision, key.boundary
    opened = open_revision(home, revision)
    vocabulary = tokenizer.vocabulary
    dtype = np.dtype("<u2") if vocabulary <= 1 << 16 else np.dtype("<u4")
    staged = {name: home.new_staging_path() for name in ("tokens", "mask", "starts")}
    starts = np.zeros(opened.rows + 1, np.int64)
    documents = tokens = masked = 0
    try:
        with (
            home.writing(staged["tokens"]),
            open(staged["tokens"], "wb") as flat_file,
            open(staged["mask"], "wb") as mask_file,
        ):
            flat, mask = SummingFile(flat_file), SummingFile(mask_file)
            for row_tokens, lengths, spoken in _all(home, opened, tokenizer, boundary, workers):
                pause()
                _check_vocabulary(row_tokens, vocabulary)
                flat.write(row_tokens.astype(dtype).tobytes())
                if spoken is not None:
                    masked += len(spoken)
                    mask.write(spoken.tobytes())
                starts[documents + 1 : documents + 1 + len(lengths)] = lengths
                documents += len(lengths)
                tokens += len(row_tokens)
                if progress is not None:
                    progress(len(lengths), len(row_tokens))
        np.cumsum(starts, out=starts)
        with home.writing(staged["starts"]), open(staged["starts"], "wb") as file:
            summed = SummingFile(file)
            summed.write(starts.astype("<i8").tobytes())
        has_mask = bool(masked) and masked == tokens
        reached("tokens.encoded")
        if on_request:
            derived.room_for_tokens(home, sum(os.path.getsize(path) for path in staged.values()))
        for name in ("tokens", "starts", *(("mask",) if has_mask else ())):
            home.adopt(staged.pop(name), f"{key.folder}/{name}.bin")
            reached("tokens.stored")
        sums = np.concatenate([flat.sums(), summed.sums(), *((mask.sums(),) if has_mask else ())]).tobytes()
        home.put(f"{key.folder}/sums.bin", sums)
        reached("tokens.summed")
    finally:
        for path in staged.values():
            if os.path.exists(path):
                os.unlink(path)
    meta = {
        "documents": documents,
        "tokens": tokens,
        "dtype": dtype.str,
        "masked": has_mask,
        "tokenizer": tokenizer.digest,
        "name": os.path.basename(tokenizer.name),
        "boundary": boundary,
        "vocabulary": vocabulary,
        "piece_bytes": PIECE_BYTES,
        "sums": sealing.checksum(f"{key.folder}/sums.bin", sums),
    }
    if tokenizer.kind == "file":  # Recipes name a tokenizer by its digest, so the home stores the tokenizer.
        home.put(stored_name(tokenizer.digest), tokenizer.raw)
    home.put(f"{key.folder}/meta.json", sealing.seal_json(f"{key.folder}/meta.json", meta))
    reached("tokens.complete")


def _check_vocabulary(tokens: Tokens, vocabulary: int) -> None:
    if len(tokens) and int(tokens.max()) >= vocabulary:
        raise InvalidOptionError(
            f"The tokenizer gave token {int(tokens.max())}, but its vocabulary has only {vocabulary} tokens.",
            remedy="Use another tokenizer.json.",
        )


def _all(home: Home, revision: Revision, tokenizer: Tokenizer, boundary: str, workers: int) -> Iterator[Any]:
    spans = list(_batches(revision))
    if workers <= 1 or len(spans) < 4:
        for start, stop in spans:
            yield _encode_rows(home, revision.revision, tokenizer, boundary, start, stop)
        return
    import multiprocessing

    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), _hold, (tokenizer,)) as pool:
        pending: list[Any] = []
        for start, stop in spans:
            pending.append(pool.submit(_encoded_elsewhere, home, revision.revision, boundary, start, stop))
            if len(pending) >= workers * 4:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
