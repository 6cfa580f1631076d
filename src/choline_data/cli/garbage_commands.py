"""`gc`, `pin` and `unpin`: which objects a home keeps, and which it frees."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from choline_data.cli.output import counted, emit, shown, size
from choline_data.places.home import Home
from choline_data.store.retention import Pin, label, pin, pins, unpin
from choline_data.upkeep.garbage import collect

_NAMES = 6  # at most this many dataset names are printed on one line


def collect_garbage(home: str, *, keep_days: float, dry_run: bool, wait: float, as_json: bool) -> None:
    """Runs `choline-data gc`."""
    done = collect(Home(home or None), keep_days=keep_days, dry_run=dry_run, wait=wait)
    if as_json:
        reasons = {
            why: {"files": kept_files.files, "bytes": kept_files.bytes, "names": list(kept_files.names)}
            for why, kept_files in done.kept.items()
        }
        emit(
            {
                "files": done.files,
                "bytes": done.bytes,
                "revisions": done.revisions,
                "dry_run": dry_run,
                "kept": reasons,
            }
        )
        return
    for why, kept_files in done.kept.items():
        more = f" and {len(kept_files.names) - _NAMES} more" if len(kept_files.names) > _NAMES else ""
        names = f": {shown(', '.join(list(kept_files.names)[:_NAMES]), 300)}{more}" if kept_files.names else ""
        sys.stdout.write(f"kept {counted(kept_files.files, 'file')}, {size(kept_files.bytes)}, {why}{names}\n")
    deleted = "would be deleted" if dry_run else "deleted"
    sys.stdout.write(f"{counted(done.files, 'file')} {deleted}, {size(done.bytes)} freed.\n")


def pin_dataset(home: str, name: str, *, as_json: bool) -> None:
    """Runs `choline-data pin`: pins a revision, or lists the pins."""
    where = Home(home or None)
    if name:
        _show_pins([pin(where, *name.partition("@")[::2])], "is pinned", as_json=as_json)
        return
    there = pins(where)
    if not there and not as_json:
        sys.stdout.write("Nothing is pinned. `choline-data pin NAME` keeps a dataset's revision from `gc`.\n")
    _show_pins(there, "is pinned", as_json=as_json)


def unpin_dataset(home: str, name: str, *, as_json: bool) -> None:
    """Runs `choline-data unpin`."""
    _show_pins(unpin(Home(home or None), *name.partition("@")[::2]), "is not pinned any more", as_json=as_json)


def _show_pins(shown_pins: Sequence[Pin], state: str, *, as_json: bool) -> None:
    for shown_pin in shown_pins:
        if as_json:
            emit({"name": shown_pin.name, "revision": shown_pin.revision})
        else:
            sys.stdout.write(f"{label(shown_pin.name, shown_pin.revision)} {state}.\n")
