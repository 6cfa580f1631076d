"""Commands about the program itself: `--version`, `formats` and `search`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from choline_data.cli.shared_options import HomeOption, JsonOption


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        sys.stdout.write(f"choline-data {version('choline-data')}\n")
        raise typer.Exit


def common_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Adds public datasets to one catalog, mixes them, and streams them to training."""


def formats(as_json: JsonOption = False) -> None:
    """List the formats.

    `add --format NAME` takes these names. The second column is the extra to install, if the format needs one.
    """
    from choline_data.adapters.registry import formats as registered
    from choline_data.cli.output import emit, table

    rows = [{"name": f.name, "extra": f.extra, "reads": "folders" if f.layout else "files"} for f in registered()]
    if as_json:
        for row in rows:
            emit(row)
        return
    table(("name", "extra", "reads"), [tuple(row.values()) for row in rows])


def search(
    query: Annotated[
        list[str], typer.Argument(metavar="WORD", help="Words, and filters such as license:mit or kind:chat.")
    ],
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Search by words.

    Searches the cards of public datasets that come with the package, and the datasets in the home.
    """
    from choline_data.cli.dataset_commands import search_datasets

    search_datasets(home, query, as_json=as_json)
