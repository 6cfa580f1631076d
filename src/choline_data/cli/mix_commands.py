"""The commands `mix explain` and `mix import`."""

from __future__ import annotations

from typing import Annotated

import typer

from choline_data.cli.help_pages import HelpTyper
from choline_data.cli.shared_options import HomeOption, JsonOption

mix_app = HelpTyper(help="Work with mixes.")


@mix_app.command("explain")
def mix_explain(
    mix: Annotated[str, typer.Argument(metavar="MIX", help="A name, web:0.7,code:0.3, '*', or a YAML file.")],
    tokens: Annotated[float, typer.Option(metavar="N", help="Number of tokens to train on.")] = 300e9,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Explain a mix.

    For each source: split, share, samples, tokens, epochs, licence, and when it runs out.
    """
    from choline_data.cli.stream_command import explain as run

    run(home, mix, tokens=tokens, as_json=as_json)


@mix_app.command("import")
def mix_import(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, the text of a mix, or - for standard input.")
    ],
    home: HomeOption = "",
) -> None:
    """Import a mix.

    Reads mixes of Megatron, datasets, MosaicML and Axolotl, and prints the mix in the form of choline-data. If the other
    tool mixes in proportion to size, the sizes come from the catalog.
    """
    from choline_data.cli.stream_command import import_mix as run

    run(home, source)
