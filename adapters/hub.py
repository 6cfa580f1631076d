"""Reads folders in the hub's layout: a README.md whose front matter names configs, splits and features.

The adapters of the files' formats read the files. This module assigns files to configs and splits, and replaces class numbers
by class names. A loading script is never run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from choline_data.adapters.base import FormatClaim, Source, SourceFile
from choline_data.adapters.reading.class_labels import Labels, Named, labels_of_features
from choline_data.adapters.reading.hub_patterns import data_files, inferred_splits, matching
from choline_data.adapters.reading.io import open_raw
from choline_data.errors import InvalidOptionError, SourceFormatError, SourceNotFoundError
from choline_data.places.yaml_safe import front_matter

# Keys that only a dataset card has. A title and a licence may be in any README.
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
    """The files of one split of one config."""

    config: str
    split: str
    files: tuple[SourceFile, ...]


def detect(source: Source) -> list[FormatClaim]:
    """The claims of the formats' adapters, each with its config, split and class names."""
    if source.options.get("layout") == "hub-parquet":
        return _claims(source, _converted(source), {}, ())
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
    return _claims(source, groups, _labels(card), tuple(over))


def _groups(card: dict[str, Any], source: Source) -> Iterator[_Group]:
    configs = card.get("configs")
    if not isinstance(configs, list) or not any(isinstance(c, dict) and _stated(c) for c in configs):
        files = data_files(source.files)
        names = [c.get("config_name") for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []
        for split, found in inferred_splits(files).items():
            yield _Group(str(names[0]) if len(names) == 1 else "", split, found)
        return
    for config in configs:
        if not isinstance(config, dict):
            continue
        name = str(config.get("config_name", "default"))
        folder = str(config["data_dir"]).strip("/") + "/" if config.get("data_dir") else ""
        within = [f for f in source.files if f.name.startswith(folder)]
        named = config.get("data_files")
        if named is None:
            for split, found in (inferred_splits(data_files(within)) or {"train": data_files(within)}).items():
                yield _Group(name, split, found)
            continue
        for split, patterns in _patterns(named):
            found = tuple({f.name: f for p in patterns for f in matching(folder + p, source.files)}.values())
            if not found:
                raise SourceNotFoundError(
                    f"README.md: no file matches {', '.join(patterns)} (config {name}, split {split}).",
                    remedy="Fetch the whole repository, or mend `configs` in the README.",
                )
            yield _Group(name, split, found)


def _stated(config: dict[str, Any]) -> bool:
    return config.get("data_files") is not None or bool(config.get("data_dir"))


def _patterns(named: Any) -> list[tuple[str, list[str]]]:
    """(split, patterns) from `data_files`, which may be a string, a list of strings, a map, or a list of {split, path}."""
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
    """The groups of a parquet conversion: `config/split/0000.parquet`."""
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
    source: Source, groups: Iterable[_Group], labels: dict[str, Labels], over: tuple[tuple[str, str], ...]
) -> list[FormatClaim]:
    from choline_data.adapters.registry import claims

    groups = list(groups)
    chosen = [g for g in groups if _chosen(g, source)]
    if groups and not chosen:
        known = ", ".join(sorted({f"{g.config}/{g.split}" for g in groups}))
        raise InvalidOptionError("No such config or split.", remedy=f"There are: {known}.")
    found: list[FormatClaim] = []
    for group in chosen:
        inner = replace(source, files=group.files, options={})
        names = labels.get(group.config) or _parquet_labels(group.files[0])
        for claim in claims(inner)[0]:
            adapter = Named(claim.adapter, names) if names else claim.adapter
            word = f"hub layout, config {group.config or 'default'}, split {group.split}: {claim.evidence}"
            found.append(
                replace(
                    claim,
                    adapter=adapter,
                    score=1.0,
                    config=claim.config or group.config,
                    split=group.split,
                    evidence=word,
                )
            )
    left = {f.name for g in groups if g not in chosen for f in g.files}
    over += tuple((name, "of a config or split that was not asked for") for name in sorted(left))
    if found and over:
        found[0] = replace(found[0], passed_over=(*over, *found[0].passed_over))
    return found


def _chosen(group: _Group, source: Source) -> bool:
    config, split = source.options.get("config"), source.options.get("split")
    return (not config or config == (group.config or "default")) and (not split or split == group.split)


def _parquet_labels(file: SourceFile) -> Labels:
    """The class labels that the `datasets` library writes into a Parquet file's metadata."""
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
