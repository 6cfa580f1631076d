"""The options of a FirehoseDataset, in groups by purpose. Each group validates its own values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.client.feedback.mixing import Origin
from choline_data.client.making import output_formats as formats
from choline_data.client.making.maker import Maker
from choline_data.client.making.media_tensors import MediaTensors
from choline_data.client.making.training_shapes import SHAPES, TrainingShape
from choline_data.client.ranks.meshes import rank_in_mesh
from choline_data.client.readers.claiming import Claimant
from choline_data.errors import InvalidMixError, InvalidOptionError
from choline_data.order.recipe import Recipe
from choline_data.tokens.tokenizer_objects import tokenizer_of
from choline_data.tokens.trainer_formats import FORMATS, TokenFormat

LAST = ("short", "drop", "wrap")


@dataclass(frozen=True)
class StreamOptions:
    """What is streamed: the mix, the settings of its recipe, and how much of the stream is read."""

    mix: object  # a parsed mix, or a recipe
    origin: Origin
    max_samples: int | None
    reshuffle: bool | None
    columns: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        mix: object,
        *,
        tokens: Mapping[str, Any],
        max_samples: int | None,
        reshuffle: bool | None,
        columns: Sequence[str] | None,
        weights: Sequence[object] | None,
        probabilities: Sequence[object] | None,
        unit: str | None,
        **settings: Any,
    ) -> StreamOptions:
        """Builds the value from the user's options. `settings` are the settings of the recipe.

        - mix: The datasets and their weights: a name, a dict, a list, `"web:0.7,code:0.3"`, a YAML file, or a `Recipe`.
        - weights: The weights of a mix that is a list of names.
        - probabilities: Another name for `weights`.
        - unit: What weights count: `"samples"`, `"tokens"` or `"bytes"`. None means what the mix says, else samples.
        - where: A filter, such as `"len(text) > 200"`. Only samples that match are in the stream.
        - view: What a position carries: `"samples"`, `"text"` (each sample as one text) or `"tokens"` (packed rows).
        - seed: The seed of the order.
        - shuffle: Whether the order is shuffled. False keeps the order of each source.
        - repeat: Whether the sources repeat without end. With False the stream ends after one epoch.
        - reshuffle: Whether each pass over a finite stream has its own order. None means True unless samples are left out.
        - max_samples: The number of positions after which the stream ends, for all ranks together.
        - on_exhausted: What follows when a source has no more samples: `"renormalize"`, `"stop"`, `"repeat"` or `"error"`.
        - source_batches: True gives each batch to one source. A number n gives n positions at a time to one source.
        - columns: The fields to read, besides `id` and `dataset`. None reads all.
        """
        whole_number("max_samples", max_samples)
        one_of("reshuffle", reshuffle, (None, True, False))
        mix = with_weights(mix, weights, probabilities)
        if not isinstance(mix, Recipe):
            from choline_data.mix import parse_mix

            mix = parse_mix(mix, files=True)
        settings["where"] = settings["where"] or ""
        settings["repeat"] = bool(settings["repeat"])
        settings["unit"] = unit or ""
        origin = Origin(settings, tokens, unit or ("" if isinstance(mix, Recipe) else mix.unit))
        return cls(mix, origin, max_samples, reshuffle, None if columns is None else tuple(columns))

    def reshuffled(self, recipe: Recipe, length: int | None) -> bool:
        """Returns whether each pass over the stream of this length has its own order."""
        if self.reshuffle and not (recipe.shuffle and length is not None):
            why = (
                "shuffle=False keeps the order of each source"
                if length is not None
                else "a stream without end has one pass"
            )
            raise InvalidOptionError(
                f"reshuffle=True has no meaning here: {why}.", remedy="Leave reshuffle out.", option="reshuffle"
            )
        whole = length is not None and (self.max_samples is None or self.max_samples >= length)
        whole = whole and all(source.cap is None or source.cap >= source.rows for source in recipe.sources)
        return recipe.shuffle and whole if self.reshuffle is None else self.reshuffle


@dataclass(frozen=True)
class MakingOptions:
    """How samples are made from rows: their format, decoding, and the user's transform."""

    format: str | TokenFormat | None
    media: MediaTensors | None
    shape: TrainingShape | None
    decode: str | Callable[[bytes, str], Any] | None
    transform: Callable[[dict[str, Any]], Any] | None
    on_error: str
    tokens: Mapping[str, Any]  # the settings for packed rows

    @classmethod
    def of(
        cls,
        format: str | TokenFormat | None,
        view: str,
        *,
        size: object,
        rate: object,
        decode: str | Callable[[bytes, str], Any] | None,
        transform: Callable[[dict[str, Any]], Any] | None,
        on_error: str,
        tokenizer: Any,
        seq_len: int | None,
        packing: str | None,
        boundary: str | None,
    ) -> MakingOptions:
        """Builds the value for this view. Raises InvalidOptionError for an option that has no meaning in it.

        - format: `"tensor"`, or columns for fine-tuning such as `"messages"`. With packed rows: a trainer, or a `TokenFormat`.
        - size: The size of images with `format="tensor"`: a number, or (height, width).
        - rate: The sample rate of sound with `format="tensor"`.
        - decode: `"torch"`, `"pil"` or a function of (bytes, MIME type) decodes media inside each sample.
        - transform: A function that is called with each sample. What it returns replaces the sample.
        - on_error: What follows when `format`, `decode` or `transform` fails: `"raise"`, or `"skip"` to leave the sample out.
        - tokenizer: `"bytes"` (the default), a `tokenizer.json`, `"tiktoken:NAME"`, a name that the server allows, or an object.
        - seq_len: The number of tokens in a packed row. None means 1024.
        - packing: `"concat"` (the default) cuts documents at the end of a row, `"bfd"` keeps them whole.
        - boundary: The special tokens around each document: `"eos"`, `"bos"`, `"bos+eos"` or `"none"`. The default is `"eos"`.
        """
        one_of("on_error", on_error, ("raise", "skip"))
        if not callable(decode):
            one_of("decode", decode, (None, "pil", "torch"))
        whole_number("seq_len", seq_len)
        media = media_tensors(format, view, size, rate, decode)
        shape = training_shape(format, view, decode)
        format = format if media is None and shape is None else None
        formats.format_of(format, view)
        if view != "tokens":
            of_tokens = {"tokenizer": tokenizer, "seq_len": seq_len, "packing": packing, "boundary": boundary}
            for name, value in of_tokens.items():
                if value is not None:
                    raise InvalidOptionError(
                        f"{name} has no meaning in the view {view!r}.",
                        remedy=f'Set view="tokens", or leave {name} out.',
                        option=name,
                    )
        if not isinstance(tokenizer, str | None):
            tokenizer = tokenizer_of(tokenizer)
        tokens = formats.token_settings(format, tokenizer, seq_len, packing or "concat", boundary or "eos")
        return cls(format, media, shape, decode, transform, on_error, tokens)

    @property
    def needs_python(self) -> bool:
        """Whether Python code decodes or transforms each sample."""
        return any(step is not None for step in (self.transform, self.decode, self.media, self.shape))

    def fields(self, names: Sequence[str]) -> list[str]:
        """Returns the names of the fields of a sample, if these columns are read."""
        return [*names, "position"] if self.shape is None else list(self.shape.names)

    def columns_to_read(self, columns: Sequence[str] | None) -> Sequence[str] | None:
        """Returns the fields to read. A format for fine-tuning decides them itself."""
        if self.shape is None:
            return columns
        if columns is not None:
            raise InvalidOptionError(
                f"format={self.shape.name!r} has columns of its own.", remedy="Leave columns out.", option="columns"
            )
        return self.shape.columns

    def maker(self, datasets: tuple[str, ...], view: str) -> Maker:
        """Returns the object that converts chunks of this view to samples and batches."""
        form = formats.format_of(self.format, view)
        return Maker(datasets, form, self.decode, self.transform, self.media, self.on_error, self.shape)


@dataclass(frozen=True)
class ReaderOptions:
    """Which part of the stream this process reads: its rank, the name of the run, and how samples form steps."""

    rank: tuple[int, int] | None
    claimant: Claimant | None
    batch_size: int | None
    batch_tokens: int | None
    last_batch: str

    @classmethod
    def of(
        cls,
        rank: int | None,
        world_size: int | None,
        mesh: Any,
        *,
        run: str | None,
        batch_size: int | None,
        batch_tokens: int | None,
        last_batch: str,
        view: str,
        seq_len: int | None,
    ) -> ReaderOptions:
        """Builds the value from the user's options.

        - rank: The rank of this process. None finds it: see "Which sample goes to which rank".
        - world_size: The number of ranks. Set it together with `rank`.
        - mesh: A `DeviceMesh` that says which ranks share samples and which read the same samples.
        - run: The name of the training run. While a rank of a run is read, a second reader of this rank is refused.
        - batch_size: The number of samples in a batch. None yields single samples.
        - batch_tokens: A budget of tokens for each batch, in place of `batch_size`.
        - last_batch: What happens to an incomplete last step: `"short"`, `"drop"` or `"wrap"`.
        """
        one_of("last_batch", last_batch, LAST)
        whole_number("batch_size", batch_size)
        place, peer = rank_in_mesh(rank, world_size, mesh)
        batch_size, budget = batch_or_budget(batch_size, batch_tokens, view, seq_len)
        return cls(place, None if run is None else Claimant(run, peer), batch_size, budget, last_batch)


def whole_number(name: str, value: object) -> None:
    """Raises InvalidOptionError unless the value is None or a whole number above 0."""
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidOptionError(f"{name} is {value!r}.", remedy="Give a whole number above 0.", option=name)


def batch_or_budget(
    batch_size: int | None, tokens: object, view: str, seq_len: int | None
) -> tuple[int | None, int | None]:
    """Returns the batch size and the token budget; one of them is None.

    In the view "tokens" all rows have the same length, so the budget becomes a batch size.
    """
    if tokens is None:
        return batch_size, None
    if type(tokens) is not int or tokens < 1 or batch_size is not None:
        raise InvalidOptionError(
            f"batch_tokens is {tokens!r}, batch_size {batch_size!r}.",
            remedy="Give one of them, a whole number above 0.",
            option="batch_tokens",
        )
    if view != "tokens":
        return None, tokens
    if tokens < (seq_len or 1024):
        raise InvalidOptionError(
            f"batch_tokens is {tokens!r}, less than one row of {seq_len or 1024}.",
            remedy="Give more, or a smaller seq_len.",
            option="batch_tokens",
        )
    return tokens // (seq_len or 1024), None


def media_tensors(form: object, view: str, size: object, rate: object, decode: object) -> MediaTensors | None:
    """Returns the settings of `format="tensor"`; None for every other format."""
    if form != "tensor":
        if size is not None or rate is not None:
            raise InvalidOptionError(
                "size and rate apply to tensors only.", remedy='Set format="tensor".', option="format"
            )
        return None
    if view != "samples" or decode is not None:
        raise InvalidOptionError(
            'format="tensor" makes tensors of the media of samples.',
            remedy='Leave view and decode unset, or use decode="torch" for tensors of each medium\'s own size.',
            option="format",
        )
    return MediaTensors.of(size, rate)


def training_shape(form: object, view: str, decode: object) -> TrainingShape | None:
    """Returns the columns for fine-tuning that this format names; None for every other format."""
    if not isinstance(form, str) or form not in SHAPES:
        if view == "samples" and isinstance(form, str) and form not in ("tensor", *FORMATS):
            raise InvalidOptionError(
                f"format {form!r} is not for samples.",
                remedy=f'For samples there are tensor, {", ".join(SHAPES)}; for packed rows set view="tokens".',
                option="format",
            )
        return None
    if view != "samples" or decode is not None:
        raise InvalidOptionError(
            f"format={form!r} makes columns for fine-tuning out of samples.",
            remedy="Leave view and decode unset.",
            option="format",
        )
    return TrainingShape(form)


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raises InvalidOptionError if the value is not allowed."""
    if value not in allowed:
        raise InvalidOptionError(
            f"{name} is {value!r}.", remedy=f"It can be {', '.join(map(repr, allowed))}.", option=name
        )


def with_weights(mix: object, weights: Sequence[object] | None, probabilities: Sequence[object] | None) -> object:
    """Returns the mix, combined with the weights that were passed as a separate option."""
    values = weights if weights is not None else probabilities
    if values is None:
        return mix
    if weights is not None and probabilities is not None:
        raise InvalidOptionError("weights and probabilities mean the same thing.", remedy="Give one of them.")
    if isinstance(mix, (str, bytes, Mapping)) or not isinstance(mix, Sequence) or len(mix) != len(values):
        raise InvalidMixError(
            "weights need a list with the same number of names.",
            remedy='Or write the mix as {"web": 0.7, "code": 0.3}.',
        )
    return dict(zip(mix, values, strict=True))
