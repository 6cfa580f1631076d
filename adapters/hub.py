"""Reads folders in the hub's layout: a README.md whose front matter names configs, splits and features.

The adapters of the files' formats read the files. This module assigns files to configs and splits, and replaces class numbers
by class names. A loading script is never run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from choline_data.adapters.base import FormatClaim, Source, SourceFile
from choline_data.adapters.reading.class_labels import Labels, Named, labels_of_features
from choline_data.adapters.reading.hub_patterns import data_files, matching
from choline_data.adapters.reading.io import open_raw
from choline_data.adapters.reading.splits import NO_SPLIT, UNCLEAR, splits_of
from choline_data.errors import ChoiceNeededError, InvalidOptionError, SourceFormatError, SourceNotFoundError, one_line
from choline_data.places.yaml_safe import front_matter

# Keys that only a dataset card has. A title and a licence may be in any README.
_MOST_CONFIGS = 16  # at most this many configs are listed in a question
_CARD_KEYS = frozenset(
    {
        "configs",
        "dataset_info",
        "task_categories",
        "size_categories",
        "pretty_name",
        "task_ids",
        "annotations_creators",
        "language_creators",
        "source_datasets",
        "multilinguality",
    }
)


@dataclass(frozen=True)
class _Group:
    """The files of one split of one config, as the card describes them."""

    config: str
    split: str
    files: tuple[SourceFile, ...]


def detect(source: Source) -> list[FormatClaim]:
    """Returns the claims of the formats' adapters, each with its config, split and class names."""
    if source.options.get("layout") == "hub-parquet":
        return _claims(source, list(_converted(source)), source.options.get("default_config", ""), {}, ())
    readme = next((f for f in source.files if f.name.lower() == "readme.md"), None)
    if readme is None:
        return []
    with open_raw(readme.path) as file:
        card = front_matter(file.read(16 << 20).decode("utf-8", "replace"), readme.name)
    if not _CARD_KEYS & card.keys():
        return []
    groups = list(_groups(card, source))
    over = [(readme.name, "the dataset card")]
    scripts = [f for f in source.files if "/" not in f.name and f.name.endswith(".py")]
    if not groups and scripts:
        raise SourceFormatError(
            f"The folder ships a loading script, {scripts[0].name}, which is never run.",
            remedy="Use --revision refs/convert/parquet of the hub dataset, or add the data files themselves.",
        )
    if not groups:
        return []
    over += [(f.name, "a loading script, never run") for f in scripts]
    return _claims(source, groups, default_config(card), _labels(card), tuple(over))


def _groups(card: dict[str, Any], source: Source) -> Iterator[_Group]:
    configs = card.get("configs")
    if not isinstance(configs, list) or not any(isinstance(c, dict) and _stated(c) for c in configs):
        files = data_files(source.files)
        names = [c.get("config_name") for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []
        groups = _by_split(files)
        if groups.keys() - {""}:
            for split, split_files in groups.items():
                yield _Group(str(names[0]) if len(names) == 1 else "", split, split_files)
        return
    for config in configs:
        if not isinstance(config, dict):
            continue
        name = str(config.get("config_name", "default"))
        folder = str(config["data_dir"]).strip("/") + "/" if config.get("data_dir") else ""
        within = [f for f in source.files if f.name.startswith(folder)]
        named = config.get("data_files")
        if named is None:
            for split, split_files in _by_split(data_files(within), folder).items():
                yield _Group(name, split or "train", split_files)
            continue
        for split, patterns in _patterns(named):
            split_files = tuple({f.name: f for p in patterns for f in matching(folder + p, source.files)}.values())
            if not split_files:
                raise SourceNotFoundError(
                    f"README.md: no file matches {', '.join(patterns)} (config {name}, split {split}).",
                    remedy="Fetch the whole repository, or correct `configs` in the README.",
                )
            yield _Group(name, split, split_files)


def _by_split(files: Sequence[SourceFile], folder: str = "") -> dict[str, tuple[SourceFile, ...]]:
    """Returns the files of each split, by their names below `folder`. Files whose names contain no split are left out."""
    below = [replace(f, name=f.name.removeprefix(folder), split="") for f in files]
    splits = splits_of(below)
    by_split: dict[str, list[SourceFile]] = {}
    for file, named in zip(files, below, strict=True):
        split = splits.get(named.name, "")
        if split not in (NO_SPLIT, UNCLEAR):
            by_split.setdefault(split, []).append(file)
    if "" in by_split and len(by_split) > 1:
        by_split["train"] = by_split.pop("") + by_split.get("train", [])
    return {split: tuple(split_files) for split, split_files in by_split.items()}


def default_config(card: dict[str, Any]) -> str:
    """Returns the config with `default: true`, or the one with the name "default", or ""."""
    stated = card.get("configs")
    configs = [c for c in stated if isinstance(c, dict)] if isinstance(stated, list) else []
    chosen = [c for c in configs if c.get("default") is True] or [
        c for c in configs if c.get("config_name") == "default"
    ]
    return str(chosen[0].get("config_name", "")) if chosen else ""


def _stated(config: dict[str, Any]) -> bool:
    return config.get("data_files") is not None or bool(config.get("data_dir"))


def _patterns(named: Any) -> list[tuple[str, list[str]]]:
    """Returns (split, patterns) from `data_files`, which may be a string, a list of strings, a map, or a list of {split, path}."""
    if isinstance(named, str):
        return [("train", [named])]
    if isinstance(named, dict):
        return [(str(split), _words(path)) for split, path in named.items()]
    if isinstance(named, list) and all(isinstance(n, str) for n in named):
        return [("train", list(named))]
    if isinstance(named, list) and all(isinstance(n, dict) and "path" in n for n in named):
        return [(str(n.get("split", "train")), _words(n["path"])) for n in named]
    raise SourceFormatError(
        "README.md: `data_files` has a form that is not known.", remedy="Write a list of `split` and `path`."
    )


def _words(path: Any) -> list[str]:
    return [str(p) for p in path] if isinstance(path, list) else [str(path)]


def _converted(source: Source) -> Iterator[_Group]:
    """Yields the groups of a parquet conversion: `config/split/0000.parquet`."""
    groups: dict[tuple[str, str], list[SourceFile]] = {}
    for file in source.files:
        parts = file.name.split("/")
        if len(parts) == 3:
            groups.setdefault((parts[0], parts[1].removeprefix("partial-")), []).append(file)
    for (config, split), files in groups.items():
        yield _Group(config, split, tuple(files))


def _labels(card: dict[str, Any]) -> dict[str, Labels]:
    infos = card.get("dataset_info")
    infos = [infos] if isinstance(infos, dict) else infos if isinstance(infos, list) else []
    return {
        str(info.get("config_name", "default")): labels_of_features(info.get("features"))
        for info in infos
        if isinstance(info, dict)
    }


def _claims(
    source: Source, groups: list[_Group], default: str, labels: dict[str, Labels], over: tuple[tuple[str, str], ...]
) -> list[FormatClaim]:
    from choline_data.adapters.registry import claims

    chosen = _chosen(groups, source, default)
    by_user = {key: value for key, value in source.options.items() if key in ("split_by", "config_by")}
    hub_claims: list[FormatClaim] = []
    for group in chosen:
        files = group.files if "split_by" in by_user else tuple(replace(f, split=group.split) for f in group.files)
        inner = replace(source, files=files, options=by_user)
        names = labels.get(group.config) or _parquet_labels(group.files[0])
        for claim in claims(inner)[0]:
            adapter = Named(claim.adapter, names) if names else claim.adapter
            word = f"hub layout, config {group.config or 'default'}, split {group.split}: {claim.evidence}"
            hub_claims.append(
                replace(
                    claim,
                    adapter=adapter,
                    score=1.0,
                    config=claim.config or group.config,
                    split="" if "split_by" in by_user else group.split,
                    evidence=word,
                )
            )
    left = {f.name for g in groups if g not in chosen for f in g.files} - {f.name for g in chosen for f in g.files}
    over += tuple((name, "of a config or split that was not asked for") for name in sorted(left))
    if hub_claims and over:
        hub_claims[0] = replace(hub_claims[0], passed_over=(*over, *hub_claims[0].passed_over))
    return hub_claims


def _chosen(groups: list[_Group], source: Source, default: str) -> list[_Group]:
    """Returns the groups of one config, and of the wanted split if there is one. Configs are never merged."""
    configs = list(dict.fromkeys(g.config or "default" for g in groups))
    config, split = source.options.get("config", ""), source.options.get("split", "")
    if not config and len(configs) > 1:
        if default not in configs and "default" not in configs:
            raise ChoiceNeededError(
                f"{one_line(source.location, 80)} has {len(configs)} configs: {_listed(configs)}.",
                remedy=f"Choose: {' | '.join(f'--config {config}' for config in configs[:_MOST_CONFIGS])}",
            )
        config = default if default in configs else "default"
    chosen = [g for g in groups if config in ("", g.config or "default") and split in ("", g.split)]
    if groups and not chosen:
        known = _listed(sorted({f"{g.config or 'default'}/{g.split}" for g in groups}))
        raise InvalidOptionError("No such config or split.", remedy=f"There are: {known}.")
    return chosen


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:50]) + (f" and {len(words) - 50} more" if len(words) > 50 else "")


def _parquet_labels(file: SourceFile) -> Labels:
    """Returns the class labels that the `datasets` library writes into a Parquet file's metadata."""
    if not file.name.endswith(".parquet"):
        return ()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_raw(file.path) as opened:
            written = (pq.read_schema(opened).metadata or {}).get(b"huggingface")
        features = json.loads(written)["info"]["features"] if written else None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return labels_of_features(features)
