"""Formats of installed packages: entry points in the group `choline_data.adapters`, name = "module.path".

A package can be broken, so nothing that its module does stops an `add`. A module that cannot be imported, raises an error or
returns something else than claims is left out, and one warning names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import Adapter, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.registered_format import PLUGIN_GROUP, RegisteredFormat
from choline_data.errors import ChoiceNeededError, SourceFormatError, one_line


class AdapterWarning(UserWarning):
    """An adapter of an installed package is left out, because it does not work."""


def installed_formats(ours: frozenset[str] = frozenset()) -> tuple[RegisteredFormat, ...]:
    """Returns the formats of installed packages in order of name, without those whose name is among `ours` or occurs twice."""
    formats: dict[str, RegisteredFormat] = {}
    points = {(p.name, p.value, p.dist.name if p.dist else "?") for p in entry_points(group=PLUGIN_GROUP)}
    for name, module, package in sorted(points):
        plugin = RegisteredFormat(name, module, package=package)
        if name in ours:
            _leave_out(plugin, "choline-data has a format of this name")
        elif name in formats:
            _leave_out(plugin, f"the package {formats[name].package} has an adapter of this name")
        else:
            formats[name] = plugin
    return tuple(formats.values())


def plugin_claims(plugins: Sequence[RegisteredFormat], source: Source) -> list[FormatClaim]:
    """Returns the claims of these plugins on the source. A plugin that does not work has none."""
    return [claim for plugin in plugins for claim in _claims_of(plugin, source)]


def _claims_of(plugin: RegisteredFormat, source: Source) -> list[FormatClaim]:
    try:
        module = plugin.load()
    except SourceFormatError as error:
        _warn(f"{error.message} It is left out. {error.remedy}")
        return []
    try:
        claims = list(module.detect(source))
        faults = [fault for fault in (fault_of(claim, source.files) for claim in claims) if fault]
        names = [file.name for claim in claims if not faults for file in claim.files]
        if len(set(names)) < len(names):
            faults = ["two claims on one file"]
    except ChoiceNeededError:
        raise  # the plugin knows the files and asks how to read them
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of any kind; the warning names it
        _leave_out(plugin, f"{type(error).__name__}: {one_line(error, 200)}")
        return []
    if faults:
        _leave_out(plugin, f"detect() returned {faults[0]}")
        return []
    return claims


def fault_of(claim: Any, files: Iterable[SourceFile]) -> str:
    """Returns in words what is wrong with a claim on some of these files. An empty string if nothing is."""
    if not isinstance(claim, FormatClaim):
        return f"{type(claim).__name__} where a FormatClaim belongs"
    if not isinstance(claim.adapter, Adapter) or isinstance(claim.adapter, type):
        return f"a claim whose adapter, {one_line(claim.adapter, 80)}, is no instance with shards() and read()"
    if not isinstance(claim.score, int | float) or not 0 <= claim.score <= 1:
        return f"a claim with the score {claim.score!r}; a score is from 0 to 1"
    known = {file.name for file in files}
    if not claim.files or not all(isinstance(file, SourceFile) and file.name in known for file in claim.files):
        return "a claim whose files are not files of the source"
    pairs = [*claim.passed_over, *claim.described, *claim.joined]
    if not all(isinstance(name, str) and isinstance(why, str) for name, why in pairs):
        return "a claim whose passed_over, described or joined are not pairs of a file's name and a reason"
    return ""


def adapter_of_a_package(adapter: Adapter) -> str:
    """Returns the adapter's module and class if another package has it. An empty string for our own adapters."""
    inner = getattr(adapter, "inner", None) or adapter
    kind = type(inner)
    return "" if kind.__module__.startswith("choline_data.") else f"{kind.__module__}.{kind.__qualname__}"


def valid_chunk(chunk: Any, adapter: Adapter, shard: Shard) -> SourceChunk:
    """Returns the chunk that an adapter yielded. Raises SourceFormatError if it is not a chunk, or lacks a number for
    each row.
    """
    if not isinstance(chunk, SourceChunk) or not isinstance(chunk.batch, pa.RecordBatch):
        fault = f"{type(chunk).__name__} where a SourceChunk with a RecordBatch belongs"
    elif len(chunk.rows) != chunk.batch.num_rows:
        fault = f"a chunk of {chunk.batch.num_rows} rows with {len(chunk.rows)} row numbers"
    else:
        return chunk
    name = adapter_of_a_package(adapter) or type(adapter).__name__
    raise SourceFormatError(f"{shard.origin}: {name} yields {fault}.", remedy=f"Report it to the author of {name}.")


def _leave_out(plugin: RegisteredFormat, why: str) -> None:
    _warn(
        f"The adapter {plugin.name!r} of the package {plugin.package} is left out: {why.rstrip('.')}."
        f" Update or uninstall {plugin.package}."
    )


@cache
def _warn(message: str) -> None:
    """Warns once in a process. The filters of `warnings` forget what they have shown when any code changes them."""
    warnings.warn(message, AdapterWarning, stacklevel=1)
