"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

HomeOption = Annotated[
    str,
    typer.Option(
        "--home",
        metavar="PLACE",
        help="The home: a folder or an fsspec URL that holds your datasets.",
        envvar="CHOLINE_DATA_HOME",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A dataset in the home.")]
PinArgument = Annotated[str, typer.Argument(metavar="NAME", help="NAME or NAME@REVISION.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
EncodingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoding", metavar="NAME", help="Encoding of the text files, or PATTERN=NAME for some. Repeatable."
    ),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="LINE",
        help="Line of a table that names the columns: 3, 3-4 (line 4 is no row), or none. Or PATTERN=LINE. Repeatable.",
    ),
]
DelimiterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--delimiter",
        metavar="CHARACTER",
        help="Character between the fields of a table, or tab, or blank. Or PATTERN=CHARACTER. Repeatable.",
    ),
]
SplitByOption = Annotated[
    str,
    typer.Option(metavar="WHAT", help="Take splits from a column, folder:N, file (each file is a split) or none."),
]
ConfigByOption = Annotated[
    str,
    typer.Option(metavar="WHAT", help="Take configs from a column, folder:N, file or table (each is a config)."),
]
JoinOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE:COLUMN", help="The column of a table that names media files. Repeatable."),
]
