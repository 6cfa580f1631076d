"""The recipe: a mix in which every detail is fixed. Its canonical JSON defines the whole stream, and the digest of the
JSON names the stream.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

import orjson

from choline_data.errors import InvalidMixError, RecipeMismatchError, SourceExhaustedError
from choline_data.order import Plan, RunPlan
from choline_data.order.permute import key_of
from choline_data.process.work import allow, pause

VERSION = 2
MAX_EPOCH = 1 << 62
VIEWS = ("samples", "text", "tokens")
ON_EXHAUSTED = ("renormalize", "stop", "repeat", "error")
MAX_SOURCES = 4096
MAX_SEGMENTS = 1024
MAX_SOURCE_BATCH = 1 << 20
_T = TypeVar("_T")
_AGAIN = "Resolve the mix again."


@dataclass(frozen=True)
class RecipeSource:
    """A source of a recipe: a revision, the part of it that is served, and the numbers that decide the order of its
    rows.

    `rows` and `block_rows` count samples, or packed rows in the tokens view.
    """

    name: str
    dataset: str
    revision: str
    rows: int
    block_rows: int
    split: str = ""
    config: str = ""
    where: str = ""
    max_epochs: str = ""  # a fraction as text, such as "3/2"; "" for no end

    @property
    def key(self) -> str:
        """Returns the key that decides, with the seed, `rows` and `block_rows`, the order of this source's rows.

        The key does not depend on the source's name or on the other sources.
        """
        return "/".join((self.revision, self.config, self.split, self.where))

    @property
    def cap(self) -> int | None:
        """Returns the largest number of samples that the source gives; None for no end."""
        if not self.max_epochs:
            return None
        return int(self.rows * Fraction(self.max_epochs))


@dataclass(frozen=True)
class Segment:
    """A part of the stream with its own weights. It begins at position `start`. The weights are integers, in samples,
    and a source without a weight gives none.
    """

    start: int
    weights: Mapping[str, int]


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a stream. Equal recipes give equal streams on every machine."""

    sources: tuple[RecipeSource, ...]
    segments: tuple[Segment, ...]
    seed: int = 0
    shuffle: bool = True
    view: str = "samples"
    on_exhausted: str = "renormalize"
    options: Mapping[str, str] = ()  # type: ignore[assignment]  # options of the view: tokenizer digest, seq_len, packing …
    source_batch: int = 1  # number of consecutive positions with one source
    epoch: int = 0  # the number of the pass over the stream; each pass has its own order of rows

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(names) > MAX_SOURCES or len(set(names)) != len(names):
            raise InvalidMixError(
                f"A recipe must have 1 to {MAX_SOURCES} sources with names of their own.", remedy="Check the mix."
            )
        object.__setattr__(self, "sources", tuple(sorted(self.sources, key=lambda s: s.name)))
        object.__setattr__(self, "options", dict(self.options))
        if self.view not in VIEWS or self.on_exhausted not in ON_EXHAUSTED or not -(1 << 63) <= self.seed < 1 << 63:
            raise InvalidMixError(
                f"view {self.view!r}, on_exhausted {self.on_exhausted!r} or seed {self.seed} is not valid.",
                remedy=f"Views: {', '.join(VIEWS)}; on_exhausted: {', '.join(ON_EXHAUSTED)}; a 64-bit seed.",
            )
        _check_numbers(self.source_batch, self.epoch)
        starts = [segment.start for segment in self.segments]
        if not starts or starts[0] != 0 or any(b <= a for a, b in itertools.pairwise(starts)):
            raise InvalidMixError(
                "Segments begin at position 0 and go up.", remedy="Append segments, never insert them."
            )
        if len(starts) > MAX_SEGMENTS or starts[-1] >= 1 << 60:
            raise InvalidMixError(
                f"A recipe has at most {MAX_SEGMENTS} segments, below position 2^60.",
                remedy="Start a new stream.",
            )
        if any(start % self.source_batch for start in starts):
            raise InvalidMixError(
                f"Batches of {self.source_batch} positions have one source each: a segment can't begin within one.",
                remedy=f"Begin it at a multiple of {self.source_batch}.",
            )
        unnamed = set(names).difference(*(segment.weights for segment in self.segments))
        # `before` drops the last segments, and the sources without a weight in the other segments. So each source must
        # have a weight in some segment.
        if unnamed:
            raise InvalidMixError(
                f"No segment has a weight for {min(unnamed)}.", remedy="Give it a weight. The weight may be 0."
            )
        for segment in self.segments:
            if not set(segment.weights) <= set(names) or not sum(segment.weights.values()):
                what = f"The segment at {segment.start} has no weight above 0, or one for a source outside the recipe."
                raise InvalidMixError(what, remedy=_AGAIN)
            if any(weight < 0 or weight >= 1 << 62 for weight in segment.weights.values()):
                raise InvalidMixError(
                    f"The segment at {segment.start} has a weight below 0 or above 2^62.", remedy=_AGAIN
                )
        for source in self.sources:
            if source.rows < 1 or source.block_rows < 1:
                raise InvalidMixError(
                    f"{source.name}: there are no rows to serve.",
                    remedy="Take it out of the mix, or widen its `where`, split or config.",
                    source=source.name,
                )
            if source.cap is not None and source.cap < self.source_batch:
                raise InvalidMixError(
                    f"{source.name}: {source.cap} samples are less than one batch of {self.source_batch} of one source.",
                    remedy="Make batches smaller, raise its max_epochs, or take it out of the mix.",
                    source=source.name,
                )

    def to_json(self) -> bytes:
        """Returns the canonical JSON: sorted keys and no blanks; values are integers, strings and booleans."""
        body = {
            "version": 1,
            "sources": [{key: value for key, value in vars(source).items() if value != ""} for source in self.sources],
            "segments": [{"start": s.start, "weights": dict(s.weights)} for s in self.segments],
            "seed": self.seed,
            "shuffle": self.shuffle,
            "view": self.view,
            "on_exhausted": self.on_exhausted,
            "options": dict(self.options),
        }
        if self.source_batch != 1:  # the default is not written, so that recipes of earlier releases keep their digests
            body["source_batch"] = self.source_batch
        if self.epoch:  # Version 2: software that knows only version 1 ignores `epoch` and would serve the first pass.
            body |= {"version": 2, "epoch": self.epoch}
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, raw: bytes | str) -> Recipe:
        """Parses and checks the JSON of a recipe, which may be untrusted. Raises InvalidMixError if it is not a valid recipe."""
        try:
            body = parse_json(raw)
            version = _exact_type(body["version"], int)
            if version not in (1, VERSION):
                raise InvalidMixError(
                    f"The recipe has version {version}, this software reads 1 to {VERSION}.",
                    remedy="Upgrade choline-data.",
                )
            _check_weights(len(body["sources"]), len(body["segments"]))
            sources = tuple(_check_source(RecipeSource(**source)) for source in body["sources"])
            segments = tuple(map(_segment, body["segments"]))
            epoch = _exact_type(body["epoch"], int) if version == VERSION else 0
            if version == VERSION and not epoch:
                raise ValueError("the first pass has version 1")
            return cls(
                sources,
                segments,
                seed=_exact_type(body["seed"], int),
                shuffle=_exact_type(body["shuffle"], bool),
                view=_exact_type(body["view"], str),
                on_exhausted=_exact_type(body["on_exhausted"], str),
                options={k: _exact_type(v, str) for k, v in body["options"].items()},
                source_batch=_exact_type(body.get("source_batch", 1), int),
                epoch=epoch,
            )
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise InvalidMixError("This is not a recipe.", remedy=_AGAIN) from error

    @cached_property
    def digest(self) -> str:
        """Returns the sha256 of the canonical JSON, which names the stream."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def row_seed(self) -> int:
        """The seed for the order of the rows in each source. It differs from pass to pass. The order of the sources
        depends on `seed` alone, so it is the same in all passes.
        """
        return key_of("pass", self.seed, self.epoch) if self.epoch else self.seed

    def in_pass(self, number: int) -> Recipe:
        """Returns the recipe for the pass that comes `number` passes after this one: the same sources at the same
        positions, but another order of the rows.
        """
        return replace(self, epoch=self.epoch + number) if number else self

    def plan(self) -> Plan | RunPlan:
        """Returns the plan, which computes the source and the number of the sample at each position."""
        _check_weights(len(self.sources), len(self.segments))
        weights = [(s.start, [s.weights.get(source.name, 0) for source in self.sources]) for s in self.segments]
        caps = [source.cap for source in self.sources]
        if self.source_batch > 1:
            return RunPlan(self.source_batch, weights, caps, seed=self.seed, on_exhausted=self.on_exhausted)
        return Plan(weights, caps, seed=self.seed, on_exhausted=self.on_exhausted)

    def exhaustion(self) -> SourceExhaustedError | None:
        """Returns the error that a stream with `on_exhausted="error"` raises after its last position.

        None if the stream ends without an error, or never ends.
        """
        if self.on_exhausted != "error":
            return None
        plan = self.plan()
        missing = plan.missing()
        if not missing:
            return None
        source, length = self.sources[missing[0]], plan.length
        samples = (source.cap or 0) // self.source_batch * self.source_batch
        return SourceExhaustedError(
            f"{source.name} runs out at position {length}, after {samples} samples of its {source.rows} rows.",
            remedy=f"Stop there (max_samples={length}), raise its max_epochs, change the mix there, or choose another "
            "on_exhausted: renormalize, stop, repeat.",
            source=source.name,
            position=length,
        )

    def before(self, segment: int) -> Recipe:
        """Returns the recipe without segment number `segment` (counted from 0) and the segments after it."""
        segments = self.segments[:segment]
        named = {name for s in segments for name in s.weights}
        return replace(self, segments=segments, sources=tuple(s for s in self.sources if s.name in named))

    def _earlier(self, position: int) -> Iterator[str]:
        """Yields the digests of the recipes that `before` returns for the segments from `position` on.

        The JSON texts of these recipes begin alike, so the common beginning is hashed only once.
        """
        body = orjson.loads(self.to_json())
        sources, segments = body.pop("sources"), body.pop("segments")
        version_on = {key: body.pop(key) for key in ("version", "view")}
        after = {key: body.pop(key) for key in ("shuffle", "source_batch") if key in body}
        head = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)[:-1] + b',"segments":[')
        tail = b"]," + orjson.dumps(after, option=orjson.OPT_SORT_KEYS)[1:-1] + b',"sources":['
        last = b"]," + orjson.dumps(version_on, option=orjson.OPT_SORT_KEYS)[1:]
        texts = {source["name"]: orjson.dumps(source, option=orjson.OPT_SORT_KEYS) for source in sources}
        named: set[str] = set()
        for number, segment in enumerate(segments[:-1]):
            pause()
            head.update(b"," * (number > 0) + orjson.dumps(segment, option=orjson.OPT_SORT_KEYS))
            named |= segment["weights"].keys()
            if position <= segments[number + 1]["start"]:
                whole = head.copy()
                whole.update(tail + b",".join(text for name, text in texts.items() if name in named) + last)
                yield whole.hexdigest()

    def check_digest(self, digest: str, position: int) -> None:
        """Raises RecipeMismatchError if a cursor with this recipe digest and position does not belong to this stream.

        The digest may also be that of the recipe without the segments that start at or after `position`.
        """
        if digest == self.digest:
            return
        if len(digest) == 64 and any(digest == earlier for earlier in self._earlier(position)):
            return
        raise RecipeMismatchError(
            f"The cursor belongs to recipe {digest[:12]}…, this stream is {self.digest[:12]}….",
            remedy="Resume with the mix, seed and options of the run that wrote it.",
            expected=self.digest,
            found=digest,
        )


def parse_json(raw: bytes | str) -> Any:
    """Parses JSON that contains a recipe. Raises ValueError if it is not JSON, or has more brackets than a recipe can have.

    The parser needs 40 bytes for each bracket.
    """
    text = raw.encode() if isinstance(raw, str) else raw
    if text.count(b"[") + text.count(b"{") > _BRACKETS:
        raise ValueError("more brackets than a recipe can have")
    return orjson.loads(text)


def _check_numbers(source_batch: int, epoch: int) -> None:
    if not 1 <= source_batch <= MAX_SOURCE_BATCH:
        raise InvalidMixError(
            f"Batches of one source can't have {source_batch} positions.",
            remedy=f"1 to {MAX_SOURCE_BATCH}.",
        )
    if not 0 <= epoch < MAX_EPOCH:
        raise InvalidMixError(f"A stream has no pass {epoch}.", remedy="Passes count from 0.")


def _check_weights(sources: int, segments: int) -> None:
    allow(
        "recipe_weights",
        sources * segments,
        f"The plan of {sources} sources in {segments} segments has too many weights",
        "Begin a new run: its recipe has one segment.",
    )


_BRACKETS = 200_000  # each segment has three brackets, and the default limits allow this many segments
_EPOCHS = re.compile(r"(?:[1-9][0-9]{0,17}(?:/[1-9][0-9]{0,17})?)?")
_REVISION = re.compile(r"[0-9a-f]{64}")


def _segment(body: Any) -> Segment:
    pause()
    return Segment(_exact_type(body["start"], int), {k: _exact_type(v, int) for k, v in body["weights"].items()})


def _exact_type(value: Any, kind: type[_T]) -> _T:
    """Returns `value` if it has exactly the type `kind`. Raises TypeError otherwise."""
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} should be")
    return value


def _check_source(source: RecipeSource) -> RecipeSource:
    """Checks the fields of an untrusted source, and returns the source. Raises TypeError or ValueError if a field is
    wrong.

    The check of `revision` matters for security, because it names a folder of the home.
    """
    for name in ("name", "dataset", "revision", "split", "config", "where", "max_epochs"):
        _exact_type(getattr(source, name), str)
    if not _REVISION.fullmatch(source.revision) or not _EPOCHS.fullmatch(source.max_epochs):
        raise ValueError("not a revision, or not a number of epochs")
    if not (1 <= _exact_type(source.rows, int) < 1 << 60 and 1 <= _exact_type(source.block_rows, int) < 1 << 60):
        raise ValueError("rows out of range")
    return source


def difference(ours: Recipe, theirs: Mapping[str, Any]) -> str:
    """Describes how another recipe (`theirs`, parsed JSON) differs from `ours`: up to six differences, each with both
    values.
    """
    own: dict[str, Any] = orjson.loads(ours.to_json())
    lines: list[str] = []
    for key in ("seed", "epoch", "shuffle", "view", "on_exhausted", "source_batch", "options", "segments"):
        if own.get(key) != theirs.get(key):
            lines.append(f"{key}: {own.get(key)} here, {theirs.get(key)} there")
    here = {s["name"]: s for s in own["sources"]}
    there = {s["name"]: s for s in theirs.get("sources", [])}
    for name in sorted(set(here) ^ set(there)):
        lines.append(f"source {name} is only {'here' if name in here else 'there'}")
    for name in sorted(set(here) & set(there)):
        for key in sorted(set(here[name]) | set(there[name])):
            if here[name].get(key) != there[name].get(key):
                lines.append(f"{name}.{key}: {here[name].get(key)} here, {there[name].get(key)} there")
    return "; ".join(lines[:6]) or "nothing that the recipes show"
