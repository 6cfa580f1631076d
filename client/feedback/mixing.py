"""Changes to a dataset's mix: batches from one source each, and new weights from a position on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from choline_data.client.readers import remote
from choline_data.client.readers.connection import Endpoint
from choline_data.client.readers.embedded import resolve_in_home
from choline_data.client.readers.reader import StreamDescription
from choline_data.errors import InvalidOptionError, OutOfRangeError, SourceExhaustedError
from choline_data.mix import parse_mix
from choline_data.mix.change import change_recipe, spell_out, weights_in
from choline_data.order.recipe import Recipe


def in_batches(recipe: Recipe, positions: object, batch_size: int | None) -> Recipe:
    """Returns a recipe in which each batch has only one source.

    `positions` says how many consecutive positions have the same source. True means as many as the batch size.
    """
    if positions is False:
        return recipe
    size = batch_size if positions is True else positions
    if type(size) is not int or size < 1:
        raise InvalidOptionError(
            f"source_batches is {positions!r}, batch_size {batch_size!r}.",
            remedy="Set batch_size and source_batches=True, or set source_batches to a number of positions.",
            option="source_batches",
        )
    return replace(recipe, source_batch=size)


def check_batches(recipe: Recipe, start: int, batch_size: int | None, batch_tokens: int | None) -> None:
    """Raises InvalidOptionError if the recipe has one source per batch, and a batch from `start` on would have two sources."""
    whole = recipe.source_batch
    if whole == 1:
        return
    if batch_tokens is not None or (batch_size is not None and (whole % batch_size or start % batch_size)):
        size = f"of {batch_tokens} tokens" if batch_size is None else f"of {batch_size} samples from position {start}"
        raise InvalidOptionError(
            f"Batches {size} would contain two sources, because each {whole} positions have one source.",
            remedy=f"Give a batch_size that divides {whole}, and begin at a multiple of it.",
            option="batch_size",
        )


def exhaustion(recipe: Recipe, max_samples: int | None) -> SourceExhaustedError | None:
    """Returns the error that the stream raises at its end, or None.

    If `max_samples` lies beyond that end, raises the error at once.
    """
    error = recipe.exhaustion()
    if error is None or max_samples is None:
        return error
    if max_samples > int(error.metadata["position"]):
        raise error
    return None


@dataclass(frozen=True)
class Origin:
    """The settings with which a recipe was resolved. Another mix is resolved with the same settings."""

    settings: Mapping[str, Any]
    tokens: Mapping[str, Any]
    unit: str

    def resolve_like(self, mix: object, recipe: Recipe, home: str, endpoint: Endpoint | None) -> tuple[Any, Recipe]:
        """Returns the parsed mix and its recipe. Sources that are in `recipe` keep the revision that `recipe` names."""
        read = parse_mix(mix, files=True)
        settings = {
            **self.settings,
            "seed": recipe.seed,
            "shuffle": recipe.shuffle,
            "view": recipe.view,
            "where": "",
            "unit": "" if read.unit else self.unit,
        }
        spelled = spell_out(read, recipe, self.settings["where"])
        if endpoint is None:
            return read, resolve_in_home(home, spelled, settings, self.tokens)
        tokens = {}
        if recipe.view == "tokens":
            from choline_data.tokens.token_stream import remote_options

            tokens = remote_options(**self.tokens)
        return read, remote.resolve_on_server(endpoint, spelled, settings, tokens, None)[0]


def change(
    recipe: Recipe,
    mix: object,
    origin: Origin,
    *,
    home: str,
    endpoint: Endpoint | None,
    position: int,
    at: int | None,
    until: int | None,
    steps: int,
) -> Recipe:
    """Returns the recipe with another mix from position `at` on.

    `position` is the position up to which the stream has been read.
    """
    grain = recipe.source_batch
    at = -(-position // grain) * grain if at is None else at
    length, last = recipe.plan().length, recipe.segments[-1].start
    if type(at) is not int or at < max(position, last) or (length is not None and at > length):
        end = "" if length is None else f", and it ends at {length}"
        raise OutOfRangeError(
            f"The mix can't change at position {at}: the stream has been read to {position}, "
            f"its last change is at {last}{end}.",
            remedy="Leave `at` out to change it from the next sample on.",
        )
    read, resolved = origin.resolve_like(mix, recipe, home, endpoint)
    weights, joining = weights_in(recipe, read, resolved)
    return change_recipe(recipe, weights, joining, at, until, steps)


def describe_change(recipe: Recipe, before: StreamDescription, endpoint: Endpoint, columns: Any) -> StreamDescription:
    """Returns the description of a server's stream after the mix was changed."""
    if {s.dataset for s in recipe.sources} == set(before.datasets):
        return replace(before, recipe=recipe, length=recipe.plan().length)
    return remote.resolve_on_server(endpoint, recipe, {}, {}, columns)[1]
