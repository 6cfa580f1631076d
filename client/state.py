"""The state of a dataset: a flat JSON dict of at most 4 KiB with the recipe and the position in its stream."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from choline_data.errors import CholineDataError, InvalidCursorError, InvalidOptionError, RecipeMismatchError
from choline_data.order.recipe import Recipe, Segment, difference

VERSION = 2  # a state has version 1 if all passes have the same order, which is how older software reads it
_SUMMARY_BYTES = 3300
_SHORT = 8  # the summary has this many hexadecimal digits of each revision
_LEFT_OUT: tuple[tuple[str, ...], ...] = (
    (),
    ("rows", "block_rows"),
    ("rows", "block_rows", "revision"),
    ("rows", "block_rows", "revision", "dataset", "where", "split", "config", "max_epochs"),
)


def _shortened(recipe: Recipe) -> Recipe:
    return replace(recipe, sources=tuple(replace(s, revision=s.revision[:_SHORT]) for s in recipe.sources))


def summary(recipe: Recipe, used_bytes: int = 0) -> str:
    """Returns a shortened recipe that fits into a state together with `used_bytes` other bytes.

    With it, an error can say how two recipes differ.
    """
    body = orjson.loads(_shortened(recipe).to_json())
    for left_out in _LEFT_OUT:
        fields = {
            **body,
            "sources": [{k: v for k, v in s.items() if k not in left_out} for s in body["sources"]],
        }
        packed = base64.b85encode(zlib.compress(orjson.dumps(fields), 9)).decode()
        if len(packed) + used_bytes <= _SUMMARY_BYTES:
            return packed
    return ""


class LastingState:
    """The part of a state that stays the same from step to step: the recipe and the bans. It is made when a state is first
    requested.
    """

    def __init__(self) -> None:
        self._summary = -1, ""  # a pair: the length of the encoded bans, and the summary that was made for this length

    def of(self, recipe: Recipe, banned: str, reshuffled: bool) -> dict[str, Any]:
        """Returns the fields of a state that hold the recipe and the banned samples."""
        if self._summary[0] != len(banned):
            self._summary = len(banned), summary(recipe, len(banned))
        digest, text = recipe.digest, self._summary[1]
        version = VERSION if reshuffled else 1
        return {"version": version, "recipe": digest, "seed": recipe.seed, "summary": text, "banned": banned}


def _difference(ours: Recipe, packed: object) -> str:
    """Describes how the recipe in a summary differs from ours. Empty if the summary does not show a difference."""
    if not isinstance(packed, str) or not packed or len(packed) > 4096:
        return ""
    try:
        theirs = orjson.loads(zlib.decompressobj().decompress(base64.b85decode(packed), 1 << 22))
        short = _shortened(ours)
        own = {s["name"]: s for s in orjson.loads(short.to_json())["sources"]}
        theirs["sources"] = [{**_missing(own.get(s["name"], {}), s), **s} for s in theirs["sources"]]
        return difference(short, theirs)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return ""


def _missing(own: Mapping[str, Any], summarised: Mapping[str, Any]) -> dict[str, Any]:
    # A field that the summary left out is assumed to be equal. The digests already show that something differs.
    return {
        key: own[key] for key in ("rows", "block_rows", "revision", "dataset") if key in own and key not in summarised
    }


def follow_changes(state: Mapping[str, Any], recipe: Recipe) -> Recipe:
    """Returns the recipe with the later mix changes that the state records, or the recipe itself if there are none.

    The changes are verified: the changed recipe must have the digest that the state names.
    """
    digest, packed = state.get("recipe"), state.get("summary")
    if digest == recipe.digest or not isinstance(packed, str) or len(packed) > 4096:
        return recipe
    try:
        stored = orjson.loads(zlib.decompressobj().decompress(base64.b85decode(packed), 1 << 22))["segments"]
        segments = tuple(Segment(s["start"], dict(s["weights"])) for s in stored)
        if len(segments) <= len(recipe.segments) or segments[: len(recipe.segments)] != recipe.segments:
            return recipe
        later = Recipe.from_json(replace(recipe, segments=segments).to_json())
        return later if later.digest == digest else recipe
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, CholineDataError):
        return recipe


def check(state: Mapping[str, Any], recipe: Recipe) -> tuple[int, int]:
    """Returns the position and the pass of a state.

    Raises RecipeMismatchError, with the difference, if it belongs to another recipe.
    """
    version = state.get("version")
    if type(version) is int and version > VERSION:
        raise InvalidCursorError("The state was written by a newer version.", remedy="Upgrade choline-data.")
    digest, position, epoch = state.get("recipe"), state.get("position"), state.get("epoch", 0)
    if (
        type(version) is not int
        or version < 1
        or not isinstance(digest, str)
        or type(position) is not int
        or position < 0
        or type(epoch) is not int
        or epoch < 0
    ):
        raise InvalidCursorError(
            "This is not a state of a FirehoseDataset.",
            remedy="Pass the result of state_dict().",
            keys=",".join(state),
        )
    try:
        recipe.check_digest(digest, position)
    except RecipeMismatchError as error:
        how = _difference(recipe, state.get("summary"))
        raise RecipeMismatchError(
            f"The state belongs to another stream ({digest[:12]}… there, {recipe.digest[:12]}… here): "
            f"{how or 'the state does not show what differs'}.",
            remedy="Load it with the mix, seed and options of the run that wrote it, or with its recipe.",
            expected=recipe.digest,
            found=digest,
        ) from error
    return position, epoch


def reshuffled(state: Mapping[str, Any], chosen: bool | None) -> bool:
    """Returns whether the passes after this state have different orders: what the state says, or else the option `chosen`.

    Raises InvalidOptionError if the two contradict each other. In the first pass they do not: its order is the same in
    both ways, and the option decides.
    """
    there: bool = state["version"] == VERSION
    if chosen is None or chosen == there:
        return there
    if state.get("epoch"):
        how = "has its own order" if there else "has the order of the first pass"
        raise InvalidOptionError(
            f"The state lies in a pass that {how}, and reshuffle is {chosen}.",
            remedy=f"Set reshuffle={there}, or leave it out.",
            option="reshuffle",
        )
    return chosen


def flatten(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Extracts the dataset's state from a loader's state. The states of a StatefulDataLoader's workers become one.

    Workers take a rank's batches in turn, so the rank's next position is the smallest next position of its workers.
    """
    if "recipe" in state or not ({"_snapshot", "_fetcher_state", "dataset_state"} & set(state)):
        return state
    snapshot = state.get("_snapshot")
    if not isinstance(snapshot, Mapping):
        inner = state.get("dataset_state")
        if not isinstance(inner, Mapping):
            raise InvalidCursorError(
                "The loader's state does not contain a state of the dataset.",
                remedy="Pass the loader's state unchanged.",
            )
        return inner
    workers = [w.get("dataset_state") for w in (snapshot.get("_worker_snapshots") or {}).values()]
    states = [w for w in workers if isinstance(w, Mapping)]
    if not states or len(states) != len(workers):
        raise InvalidCursorError(
            "The loader's state does not contain a state of the dataset.", remedy="Pass the loader's state unchanged."
        )
    one = merge(states)
    # How many batches the loader delivered after it took the states of its workers.
    since = int(state.get("_steps_since_snapshot") or 0)
    if since and any(s.get("split") == "tokens" or ("within" in s and s.get("banned")) for s in states):
        raise InvalidCursorError(
            "With batch_tokens or banned samples, only the workers know where their steps end.",
            remedy="Set snapshot_every_n_steps=1, or use dataset.loader().",
        )
    one["position"] += since * int(one.get("step", 0))
    return {**one, "position": 0, "epoch": one.get("epoch", 0) + 1} if state.get("_iterator_finished") else one


def place_in(state: Mapping[str, Any], start: int) -> tuple[int, int]:
    """Returns the position and the pass of a StatefulDataLoader's state. If only its workers know the position, returns
    `start`.
    """
    try:
        inner = flatten(state)
        return int(inner["position"]), int(inner.get("epoch", 0))
    except InvalidCursorError:
        workers = ((state.get("_snapshot") or {}).get("_worker_snapshots") or {}).values()
        epochs = [(worker.get("dataset_state") or {}).get("epoch", 0) for worker in workers]
        return start, max(epochs, default=0)


def merge(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merges the states of all workers of a rank into one."""
    if any(s.get("split") == "samples" for s in states) and len(states) > 1:
        raise InvalidCursorError(
            "Workers that take single samples in turn have no common position.",
            remedy="Set batch_size on the dataset, or use its loader().",
        )
    if any(s.get("within") for s in states) and len(states) > 1:
        raise InvalidCursorError(
            "Samples were left out, so the batches of the workers have no common position.",
            remedy="Load the state into a loader with the same number of workers, or set batch_size on the dataset.",
        )
    if {s.get("recipe") for s in states} != {states[0].get("recipe")}:
        raise InvalidCursorError(
            "The workers' states belong to different streams.", remedy="Pass the loader's state unchanged."
        )
    # With a token budget, each state has the start of the step after the worker's own step. Otherwise it has the start of the
    # worker's next step.
    chosen = max if states[0].get("split") == "tokens" else min
    first = chosen(states, key=lambda s: (s.get("epoch", 0), s.get("position", 0)))
    return {key: value for key, value in first.items() if key not in ("worker", "workers", "split", "skip", "within")}
