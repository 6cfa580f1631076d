"""Imports mixes of other tools: Megatron blend, `interleave_datasets`, MosaicML `streams:`, Axolotl `datasets:`.

Text is only parsed. Python is parsed by `ast`: only constants and calls of known functions are used, and no code is
executed.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import yaml

from choline_data.errors import InvalidMixError, one_line
from choline_data.mix.grammar import MAX_TEXT_BYTES, Mix, parse_mix, weight_of, yaml_value
from choline_data.store.snapshots import name_from

_NUMBER = re.compile(r"\d{1,40}(\.\d{0,40})?([eE][+-]?\d{1,3})?|\.\d{1,40}")

# The stopping strategies of the library `datasets`, and the `on_exhausted` that has the same effect if every source is
# served once.
_STRATEGIES = {
    "first_exhausted": "stop",
    "all_exhausted": "repeat",
    "all_exhausted_without_replacement": "renormalize",
}


@dataclass(frozen=True)
class ImportedMix:
    """An imported mix of another tool. `notes` say which settings have no exact equivalent here."""

    tool: str
    mix: Mix
    origins: Mapping[str, str]  # for each name in the mix, where the other tool reads that source
    notes: tuple[str, ...] = ()
    on_exhausted: str = "renormalize"
    seed: int | None = None

    def to_yaml(self) -> str:
        """Returns the mix file, with the origin of each source in a comment."""
        lines = [f"# from {self.tool}; add each dataset under its name first, `choline-data add SOURCE --name NAME`"]
        lines += [f"# {name}: {one_line(origin, 200)}" for name, origin in self.origins.items()]
        lines += [f"# {one_line(note)}" for note in self.notes]
        body = yaml_value(self.mix.to_text())
        return "\n".join(lines) + "\n" + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


@dataclass
class _ForeignSource:
    """One source, as the other tool describes it: its name, its weight and its location."""

    origin: str
    weight: Fraction | None = None
    split: str = ""
    config: str = ""
    epochs: Fraction | None = None
    notes: list[str] = field(default_factory=list)


def import_mix(text: str, *, sizes: Mapping[str, int] | None = None) -> ImportedMix:
    """Converts a mix of another tool, given as text. Raises InvalidMixError if the text is no mix of a known tool.

    `sizes` has the number of rows of each known dataset. It is used for tools that concatenate their sources, because
    they mix in proportion to the sizes.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise InvalidMixError(f"The text is longer than {MAX_TEXT_BYTES} bytes.", remedy="Paste the mix only.")
    rows = sizes or {}
    try:
        if "interleave_datasets" in text:
            return _hugging_face(text, rows)
        body = _yaml_of(text)
        streams = _inside(body, "streams", dict)
        if streams:
            return _mosaic(streams, rows)
        datasets = _inside(body, "datasets", list)
        if datasets:
            return _axolotl(datasets, rows)
        return _megatron(text, rows)
    except RecursionError as error:
        raise InvalidMixError("The text is nested too deep.", remedy="Paste the mix only.") from error


def _yaml_of(text: str) -> object:
    try:
        return yaml_value(text)
    except InvalidMixError:
        return None


def _inside(body: object, key: str, kind: type, depth: int = 6) -> Any:
    """Returns the first value with this key and type, at the top level or in nested mappings."""
    if not isinstance(body, Mapping) or not depth:
        return None
    if isinstance(body.get(key), kind):
        return body[key]
    return next((inner for value in body.values() if (inner := _inside(value, key, kind, depth - 1))), None)


def _mix_of(tool: str, found: list[_ForeignSource], sizes: Mapping[str, int], **rest: Any) -> ImportedMix:
    """Returns the mix of these sources. If a source has no weight, its weight is its size, if that is known."""
    if not found:
        raise InvalidMixError(f"There are no sources in this {tool} mix.", remedy="Paste the whole mix.")
    notes = [note for source in found for note in source.notes]
    names: dict[str, str] = {}
    mix: dict[str, dict[str, Any]] = {}
    by_size = [source for source in found if source.weight is None]
    known = all(_name(source) in sizes for source in by_size)
    if by_size and not known:
        notes.append(
            f"{tool} mixes these sources in proportion to their rows, which are not known here. Set each weight to rows "
            "times repeats, or add all sources to the catalog and import the mix again."
        )
    for source in found:
        name = _name(source)
        weight = source.weight
        if weight is None:
            weight = (source.epochs or Fraction(1)) * (sizes[name] if known else 1)
        key = name + (f":{source.config}" if source.config else "") + (f"/{source.split}" if source.split else "")
        number = 2
        while key in mix:
            key, number = f"{key.partition('#')[0]}-{number}", number + 1
        mix[key] = {"dataset": name, "weight": weight}
        mix[key] |= {k: v for k in ("config", "split") if (v := getattr(source, k))}
        if source.epochs is not None:
            mix[key]["max_epochs"] = source.epochs
        names[key] = source.origin
    return ImportedMix(tool, parse_mix({"unit": "samples", "sources": mix}), names, tuple(dict.fromkeys(notes)), **rest)


def _name(source: _ForeignSource) -> str:
    parts = [part for part in re.split(r"[\\/]+", source.origin) if part.strip(".*")]
    return name_from(
        re.sub(r"(_text_document|\.(jsonl?|parquet|csv|bin|idx|txt))$", "", parts[-1] if parts else "dataset")
    )


def _megatron(text: str, sizes: Mapping[str, int]) -> ImportedMix:
    """Parses `--data-path 30 prefix_a 70 prefix_b`, or only prefixes."""
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InvalidMixError(
            "The text has an opening quote without a closing one.", remedy="Paste the whole blend."
        ) from error
    flags = [at for at, word in enumerate(words) if re.fullmatch(r"--(train-)?data-path(=.*)?", word)]
    if flags:
        first = words[flags[0]].partition("=")[2]
        words = ([first] if first else []) + words[flags[0] + 1 :]
    words = words[: next((at for at, word in enumerate(words) if word.startswith("--")), len(words))]
    numbers = [bool(_NUMBER.fullmatch(word)) for word in words]
    if (
        len(words) >= 2
        and len(words) % 2 == 0
        and all(is_number == (not at % 2) for at, is_number in enumerate(numbers))
    ):
        pairs = zip(words[::2], words[1::2], strict=True)
        return _mix_of("Megatron", [_ForeignSource(prefix, Fraction(weight)) for weight, prefix in pairs], sizes)
    if flags and words and not any(numbers):
        return _mix_of("Megatron", [_ForeignSource(prefix) for prefix in words], sizes)
    raise InvalidMixError(
        "This is not a mix of Megatron, Hugging Face datasets, MosaicML or Axolotl.",
        remedy="Paste `30 a 70 b`, an interleave_datasets(...) call, a `streams:` block or a `datasets:` list.",
    )


def _mosaic(streams: Mapping[Any, Any], sizes: Mapping[str, int]) -> ImportedMix:
    """Parses `streams: {name: {remote, local, split, proportion | repeat | choose}}`."""
    sources = []
    for name, stream in streams.items():
        options = stream if isinstance(stream, Mapping) else {}
        where = options.get("remote") or options.get("local") or name
        source = _ForeignSource(str(where), split=str(options.get("split") or ""))
        if options.get("proportion") is not None:
            source.weight = weight_of(options["proportion"], str(name))
        elif options.get("choose") is not None:
            source.weight = weight_of(options["choose"], str(name))
            source.notes.append("`choose` is a number of samples: it became the weight.")
        elif options.get("repeat") is not None:
            source.epochs = weight_of(options["repeat"], str(name)) or Fraction(1)
        sources.append(source)
    return _mix_of("MosaicML", sources, sizes)


def _axolotl(datasets: list[Any], sizes: Mapping[str, int]) -> ImportedMix:
    """Parses `datasets: [{path, name, split, type, …}]`: all datasets, one after another or shuffled together."""
    sources = []
    for item in datasets:
        if not isinstance(item, Mapping) or not isinstance(item.get("path"), str):
            raise InvalidMixError("An entry of `datasets:` has no `path`.", remedy="Paste the whole list.")
        source = _ForeignSource(item["path"], config=str(item.get("name") or ""))
        split, bracket, cut = str(item.get("split") or "").partition("[")
        source.split = split
        if bracket:
            source.notes.append(
                f"{item['path']}: only {split}[{cut} was asked for; a part of a split has no place here."
            )
        if item.get("shards"):
            source.notes.append(f"{item['path']}: 1 of {item['shards']} shards was asked for; all of it is taken.")
        if item.get("type"):
            source.notes.append(
                f"{item['path']}: type {item['type']} is the mapping's matter, see `choline-data add --map`."
            )
        sources.append(source)
    return _mix_of("Axolotl", sources, sizes)


def _hugging_face(text: str, sizes: Mapping[str, int]) -> ImportedMix:
    """Parses `interleave_datasets([load_dataset(…), …], probabilities=[…], seed=…, stopping_strategy=…)`."""
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, MemoryError) as error:
        raise InvalidMixError(
            "The call is not Python.", remedy="Paste it from its first to its last bracket."
        ) from error
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in _calls(tree) if _called(node) == "interleave_datasets"]
    if not calls:
        raise InvalidMixError("There is no call of interleave_datasets.", remedy="Paste the call.")
    call = calls[0]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    keywords |= dict(zip(("datasets", "probabilities", "seed"), call.args, strict=False))
    listed = _follow(keywords.get("datasets"), named)
    if not isinstance(listed, ast.List | ast.Tuple):
        raise InvalidMixError("The datasets are not a list.", remedy="Write them out: interleave_datasets([a, b], …).")
    sources = [_source_of_item(item, named) for item in listed.elts]
    chances = _constant(_follow(keywords.get("probabilities"), named))
    if chances is not None:
        if not isinstance(chances, list | tuple) or len(chances) != len(sources):
            raise InvalidMixError(
                f"There are {len(sources)} datasets, but another number of probabilities.", remedy="Paste both."
            )
        for source, chance in zip(sources, chances, strict=True):
            source.weight = weight_of(chance, source.origin)
    else:
        for source in sources:
            source.weight = Fraction(1)
    strategy = _constant(keywords.get("stopping_strategy")) or "first_exhausted"
    if strategy not in _STRATEGIES:
        raise InvalidMixError(
            f"There is no stopping_strategy {strategy!r}.", remedy=f"There are: {', '.join(_STRATEGIES)}."
        )
    for source in sources:
        source.epochs = Fraction(1)
    seed = _constant(keywords.get("seed"))
    seed = seed if type(seed) is int else None
    if _STRATEGIES[strategy] != "renormalize":
        sources[0].notes.append(
            f"stopping_strategy {strategy}: pass on_exhausted={_STRATEGIES[strategy]!r} with the mix."
        )
    return _mix_of("datasets", sources, sizes, on_exhausted=_STRATEGIES[strategy], seed=seed)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _follow(node: ast.AST | None, named: Mapping[str, ast.AST]) -> ast.AST | None:
    """Returns the value that was assigned to a variable. Follows at most 4 assignments."""
    for _ in range(4):
        if isinstance(node, ast.Name) and node.id in named:
            node = named[node.id]
    return node


def _constant(node: ast.AST | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise InvalidMixError(
            "An argument of the call is not a plain value.", remedy="Write the value into the call."
        ) from error


def _source_of_item(node: ast.AST, named: Mapping[str, ast.AST]) -> _ForeignSource:
    """Returns the source of one list item: a load_dataset call, a string, or a variable whose value is unknown."""
    shown = node.id if isinstance(node, ast.Name) else ""
    value = _follow(node, named)
    loads = [call for call in _calls(value) if _called(call) == "load_dataset"] if value is not None else []
    if loads:
        texts = [_constant(argument) for argument in loads[0].args[:2]]
        keywords = {k.arg: k.value for k in loads[0].keywords}
        texts += [None] * (2 - len(texts))
        path = texts[0] if texts[0] is not None else _constant(keywords.get("path"))
        config = texts[1] if texts[1] is not None else _constant(keywords.get("name"))
        split = str(_constant(keywords.get("split")) or "").partition("[")[0]
        if isinstance(path, str):
            return _ForeignSource(path, config=str(config or ""), split=split)
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return _ForeignSource(value.value)
    if shown:
        return _ForeignSource(shown, notes=[f"{shown} is a variable: it became a dataset of that name."])
    raise InvalidMixError("An item of the list is not a dataset.", remedy="Use load_dataset(…) calls or names.")
