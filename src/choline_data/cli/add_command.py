"""`choline-data add`: shows how it understands the source, asks only if it is unsure, ingests with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from choline_data.catalog.account import FileAccount
from choline_data.catalog.add import Prepared, ingest, prepare
from choline_data.catalog.ingest import Ingested
from choline_data.catalog.planning import IngestPlan, Wishes
from choline_data.cli.account_output import account_as_json, encoding_lines, show_account
from choline_data.cli.asking import MOST_QUESTIONS, ask
from choline_data.cli.output import emit, shown, size
from choline_data.errors import ChoiceNeededError, InvalidOptionError
from choline_data.places.home import Home


def _fields(pairs: Sequence[str]) -> dict[str, str]:
    out = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not field or not column:
            raise InvalidOptionError(f"--map {pair!r} is not FIELD=COLUMN.", remedy="For example --map text=body.")
        out[field] = column
    return out


def _show_plan(prepared: Prepared, *, all_files: bool) -> None:
    plan = prepared.plan
    files = {shard.name for part in plan.parts for shard in part.shards}
    out = sys.stderr.write
    out(f"{plan.name}: {plan.kind}, {len(files)} file{'s' * (len(files) != 1)}, {size(plan.bytes)}\n")
    shown_before: set[str] = set()
    for part in plan.parts:
        adapter = type(part.adapter).__name__
        fields = ", ".join(f"{role}={column}" for role, column in part.mapping.fields) or "-"
        line = f"  {adapter}: {part.mapping.kind} as {part.mapping.form} ({fields}); {part.evidence}"
        if line not in shown_before and len(shown_before) < 12:
            shown_before.add(line)
            out(shown(line, 400) + "\n")
    for line in encoding_lines(plan.encodings):
        out(f"  {shown(line, 300)}\n")
    show_account(plan.account, every=all_files)
    for line in _splits(plan):
        out(shown(line, 400) + "\n")
    for preview in plan.previews:
        out(f"  raw     {shown(preview.raw, 160)}\n")
        out(f"  sample  {shown(preview.sample, 160)}\n")
    for warned in plan.warned[:8]:
        out(shown(f"  warning: {warned.message} {warned.remedy}", 400) + "\n")
    if plan.constants.get("license") == "NOASSERTION":
        out("  no licence is stated; say it with --license\n")


def _splits(plan: IngestPlan) -> Iterator[str]:
    """Returns a line for each split, and for each column that decides the splits."""
    for name in dict.fromkeys(part.by_row.split for part in plan.parts if part.by_row.split):
        yield f"  splits: by the column {name} (--split-by none keeps all rows together)"
    for name in dict.fromkeys(part.by_row.config for part in plan.parts if part.by_row.config):
        yield f"  configs: by the column {name}"
    splits = plan.splits
    for (config, split), (files, held) in list(splits.items())[:8] if any(map(any, splits)) else ():
        called = "/".join(filter(None, (config, split or "no split")))
        yield f"  split {called}: {files:,} file{'s' * (files != 1)}, {size(held)}"
    if len(splits) > 8:
        yield f"  and {len(splits) - 8} more splits"


@contextmanager
def _progress(plan: IngestPlan, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(plan.name),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=plan.bytes or None, rows=0)
        rows = 0

        def step(more_rows: int, more_bytes: int) -> None:
            nonlocal rows
            rows += more_rows
            bar.update(task, advance=more_bytes, rows=rows)

        yield step


def _prepare(home: Home, sources: Sequence[str], name: str, wishes: Wishes, revision: str, *, asking: bool) -> Prepared:
    """Makes and returns the plan. If questions are open and there is a terminal, asks the user."""
    for _ in range(MOST_QUESTIONS if asking else 0):
        try:
            return prepare(home, sources, name=name, wishes=wishes, revision=revision)
        except ChoiceNeededError as error:
            wishes = ask(error, wishes)
    return prepare(home, sources, name=name, wishes=wishes, revision=revision)


def add(
    sources: Sequence[str],
    *,
    home: str,
    name: str,
    as_kind: str,
    field_map: Sequence[str],
    format_: str,
    config: str,
    split: str,
    include: Sequence[str],
    exclude: Sequence[str],
    join: Sequence[str],
    split_by: str,
    config_by: str,
    encoding: Sequence[str],
    header: Sequence[str],
    delimiter: Sequence[str],
    license_: str,
    language: str,
    revision: str,
    limit: int,
    dedup: str,
    max_rejects: float,
    compression: str,
    in_place: bool,
    replace_existing: bool,
    check: bool,
    dry_run: bool,
    yes: bool,
    runner: str,
    workers: int,
    scheduler: str,
    flags: tuple[str, ...],
    all_files: bool,
    as_json: bool,
) -> None:
    """Runs the command."""
    started = time.monotonic()
    _check_choices(compression, dedup)
    where = Home(home or None)
    wishes = Wishes(
        as_kind=as_kind,
        fields=_fields(field_map),
        format=format_,
        license=license_,
        language=language,
        limit=limit,
        compression="" if compression == "none" else compression,
        max_rejects=max_rejects,
        config=config,
        split=split,
        include=tuple(include),
        exclude=tuple(exclude),
        join=tuple(join),
        split_by=split_by,
        config_by=config_by,
        encoding=",".join(encoding),
        header=",".join(header),
        delimiter=",".join(delimiter),
    )
    asking = sys.stdin.isatty() and sys.stderr.isatty() and not as_json and not yes
    prepared = _prepare(where, sources, name, wishes, revision, asking=asking)
    plan = prepared.plan
    if not as_json:
        _show_plan(prepared, all_files=all_files)
    if dry_run:
        if as_json:
            emit({"name": plan.name, "kind": plan.kind, "bytes": plan.bytes, "dry_run": True, **_told(plan, all_files)})
        return
    if asking:
        sys.stderr.write("Add it? [Y/n] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
            return
    if in_place:
        from choline_data.catalog.register_in_place import register

        done = register(where, prepared, replace_existing=replace_existing)
    else:
        with _progress(plan, quiet=as_json) as step:
            done = ingest(
                where,
                prepared,
                runner=runner,
                workers=workers,
                scheduler=scheduler,
                flags=flags,
                dedup=dedup,
                replace_existing=replace_existing,
                check=check,
                progress=step,
            )
    _report(done, plan, time.monotonic() - started, all_files=all_files, as_json=as_json)


def _told(plan: IngestPlan, all_files: bool, account: Sequence[FileAccount] = ()) -> dict[str, object]:
    parts = [
        {
            "adapter": type(p.adapter).__name__,
            "kind": p.mapping.kind,
            "form": p.mapping.form,
            "fields": dict(p.mapping.fields),
        }
        for p in plan.parts
    ]
    splits = [
        {"config": config, "split": split, "files": files, "bytes": size}
        for (config, split), (files, size) in plan.splits.items()
    ]
    return {
        "parts": parts,
        "splits": splits,
        "passed_over": [{"file": name, "why": why} for name, why in plan.passed_over],
        "warnings": [vars(warned) for warned in plan.warned],
        "encodings": plan.encodings,
        **account_as_json(account or plan.account, every=all_files),
    }


def _report(done: Ingested, plan: IngestPlan, seconds: float, *, all_files: bool, as_json: bool) -> None:
    """Prints the result of the ingestion."""
    entry = done.entry
    if as_json:
        emit(
            {
                "name": entry.name,
                "revision": entry.revision,
                "kind": entry.kind,
                "read": done.read,
                "rows": entry.rows,
                "rejected": entry.rejected,
                "bytes": entry.bytes,
                "duplicates": done.duplicates,
                "license": entry.license,
                **_told(plan, all_files, done.account),
            }
        )
        return
    first = next((f" (the first: {r.file}, row {r.row}: {r.reason})" for r in done.rejects), "")
    rejected = f", {entry.rejected:,} rejected{shown(first, 200)}" if entry.rejected else ""
    duplicates = f", {done.duplicates:,} repeats left out" if done.duplicates else ""
    read = f" of {done.read:,} rows read" if not plan.limit else ""
    sys.stdout.write(
        f"{entry.name}@{entry.revision[:12]}: {entry.rows:,} {entry.kind} samples{read}{rejected}{duplicates}, "
        f"{size(entry.bytes)} in {seconds:.1f} s\n"
        f"Stream it:  FirehoseDataset({entry.name!r})   or   choline-data stream {entry.name}\n"
    )


def _check_choices(compression: str, dedup: str) -> None:
    if compression not in ("", "none", "zstd", "lz4"):
        raise InvalidOptionError(f"--compression {compression!r}: no such codec.", remedy="Give zstd, lz4 or none.")
    if dedup not in ("", "exact", "near"):
        raise InvalidOptionError(f"--dedup {dedup!r}: there is no such method.", remedy="Give exact or near.")
