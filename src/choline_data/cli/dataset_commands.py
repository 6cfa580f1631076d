"""The commands that show, verify, repair, remove and export datasets of the catalog."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from choline_data.cli.output import counted, emit, shown, size, table
from choline_data.errors import UnknownDatasetError
from choline_data.places.home import Home
from choline_data.store import Catalog, Entry, open_revision
from choline_data.store.faults import Fault
from choline_data.store.retention import KEEP_DAYS


def _summary(entry: Entry) -> dict[str, Any]:
    keys = ("name", "revision", "kind", "rows", "rejected", "bytes", "license", "source")
    return {key: getattr(entry, key) for key in keys}


def list_datasets(home: str, *, as_json: bool) -> None:
    """Runs `choline-data list`."""
    entries = list(Catalog(Home(home or None)).entries().values())
    if as_json:
        for entry in entries:
            emit(_summary(entry))
        return
    if not entries:
        sys.stdout.write(
            "Nothing yet. `choline-data add SOURCE` adds a dataset, `choline-data search WORD` finds one.\n"
        )
        return
    rows = [
        (e.name, e.kind, f"{e.rows:,}", f"{e.rejected:,}", size(e.bytes), shown(e.license, 30), e.revision[:12])
        for e in entries
    ]
    table(("name", "kind", "samples", "rejected", "size", "licence", "revision"), rows)


def search_datasets(home: str, query: list[str], *, as_json: bool) -> None:
    """Runs `choline-data search`."""
    from choline_data.catalog.cards import packaged_cards
    from choline_data.catalog.search import search

    there = Catalog(Home(home or None)).entries()
    cards = search(packaged_cards().values(), query)
    if as_json:
        for card in cards:
            emit(
                {
                    "name": card.name,
                    "title": card.title,
                    "kind": card.kind,
                    "license": card.license,
                    "source": card.source,
                    "added": card.name in there,
                }
            )
        return
    if not cards:
        sys.stdout.write(f"No card fits {' '.join(query)!r}. Use fewer words, or a filter such as kind:chat.\n")
        return
    table(
        ("name", "kind", "licence", "added", "what"),
        [(c.name, c.kind, shown(c.license, 24), "yes" if c.name in there else "", shown(c.title, 60)) for c in cards],
    )


def show_dataset(home: str, name: str, *, as_json: bool) -> None:
    """Runs `choline-data show`."""
    from choline_data.catalog.cards import packaged_cards

    where = Home(home or None)
    entries = Catalog(where).entries()
    cards = packaged_cards()
    if name not in entries and name not in cards:
        raise UnknownDatasetError(name, [*entries, *cards])
    values: dict[str, Any] = {}
    if name in entries:
        entry = entries[name]
        revision = open_revision(where, entry.revision)
        values = {
            **asdict(entry),
            "columns": revision.columns,
            "block_rows": revision.block_rows,
            "files": len(revision.file_rows),
            "splits": [{"config": c, "split": s, "rows": n} for c, s, n in revision.splits()],
            "about": revision.about,
        }
    if name in cards:
        values["published_as"] = asdict(cards[name])
    if as_json:
        emit(values)
        return
    for key, value in values.items():
        if value not in ("", (), {}, []):
            sys.stdout.write(f"{key:14} {shown(value, 400)}\n")


def _batches(home: Home, entry: Entry, rows: int) -> list[dict[str, Any]]:
    revision = open_revision(home, entry.revision)
    out: list[dict[str, Any]] = []
    for batch in revision.read(0, min(rows, revision.rows)):
        for sample in batch.to_pylist():
            out.append({**revision.constants, "dataset": entry.name, **sample})
    return out


def head_dataset(home: str, name: str, count: int, *, as_json: bool) -> None:
    """Runs `choline-data head`."""
    from choline_data.schema import SCHEMA

    where = Home(home or None)
    for sample in _batches(where, Catalog(where).entry(name), count):
        ordered = {column: sample.get(column) for column in SCHEMA.names}
        if as_json:
            emit(ordered)
            continue
        for column, value in ordered.items():
            if value is not None and column not in ("dataset", "license"):
                sys.stdout.write(f"{column:9} {value.hex() if column == 'id' else shown(value, 300)}\n")
        sys.stdout.write("\n")


def verify_datasets(home: str, name: str, *, as_json: bool) -> int:
    """Runs `choline-data verify`: checks every byte of every file, every block and every count. Returns 1 if something
    is wrong.
    """
    from choline_data.upkeep.check import check

    report = check(Home(home or None), name)
    for counts in report.datasets:
        if as_json:
            emit(counts)
        elif counts["ok"]:
            sys.stdout.write(
                f"{counts['name']}@{counts['revision'][:12]}: {counted(counts['files'], 'file')}, "
                f"{counted(counts['blocks'], 'block')}, {size(counts['bytes'])}: good\n"
            )
    for note in report.notes:
        if as_json:
            emit({"note": note})
        else:
            sys.stdout.write(f"note: {shown(note, 600)}\n")
    _show_faults(report.faults, as_json=as_json)
    return 1 if report.faults else 0


def _show_faults(faults: Sequence[Fault], *, as_json: bool) -> None:
    for fault in faults:
        if as_json:
            emit(fault.as_json())
        else:
            sys.stdout.write(f"damaged: {shown(fault, 400)} {shown(fault.remedy, 400)}\n")


def _say(step: str) -> None:
    sys.stderr.write(f"{shown(step, 400)}\n")


def repair_datasets(home: str, name: str, *, workers: int, as_json: bool) -> int:
    """Runs `choline-data repair`. Returns the exit code, 1 if something is still damaged."""
    from choline_data.catalog.repair import repair

    done = repair(
        Home(home or None),
        name,
        workers=workers,
        said=None if as_json else _say,
    )
    for file, what in done.done:
        if as_json:
            emit({"file": file, "done": what})
        else:
            sys.stdout.write(f"{shown(file, 200)}: {what}\n")
    for unrepaired in done.lost:
        if as_json:
            emit({"lost": unrepaired})
        else:
            sys.stdout.write(f"lost: {shown(unrepaired, 600)}\n")
    for error in done.failed:
        if as_json:
            emit({"error": error.reason, "message": error.message, "remedy": error.remedy})
        else:
            sys.stderr.write(f"error: {error.message} {error.remedy}\n")
    _show_faults(done.left, as_json=as_json)
    if not (as_json or done.done or done.left):
        sys.stdout.write("Nothing was damaged.\n")
    return 1 if done.left or done.failed else 0


def remove_dataset(home: str, name: str, *, as_json: bool) -> None:
    """Runs `choline-data rm`."""
    removed = Catalog(Home(home or None)).remove(name)
    if as_json:
        emit(_summary(removed))
    else:
        sys.stdout.write(
            f"{name} is out of the catalog. `choline-data gc` frees its {size(removed.bytes)} after {KEEP_DAYS} days, "
            "`choline-data gc --keep-days 0` now.\n"
        )


def run_sql(home: str, query: str, *, as_json: bool) -> None:
    """Runs `choline-data sql`."""
    from choline_data.catalog.sql import query_home

    answer = query_home(Home(home or None), query)
    if as_json:
        for batch in answer.to_batches():
            for row in batch.to_pylist():
                emit(row)
        return
    rows = [tuple(shown(value, 60) for value in row.values()) for row in answer.slice(0, 200).to_pylist()]
    table(answer.column_names, rows)
    if answer.num_rows > 200:
        sys.stdout.write(f"… {answer.num_rows - 200:,} more rows; --json gives all.\n")


def export_dataset(home: str, name: str, to: str, out: str, *, as_json: bool) -> None:
    """Runs `choline-data export`."""
    from choline_data.catalog.export import export

    where = Home(home or None)
    done = export(where, Catalog(where).entry(name), to, out or f"{name}-{to}")
    if as_json:
        emit(done)
    else:
        sys.stdout.write(
            f"{counted(done['rows'], 'sample')} in {counted(done['files'], 'file')} under {done['out']}.\n"
        )
