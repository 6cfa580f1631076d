"""Writes the reference pages from the code: docs/commands.md, docs/api.md, and the table of keywords in docs/training.md.

    python docs/generate_reference.py

`tests/docs/test_reference.py` makes them again and compares.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import typer.main

from choline_data import errors
from choline_data.adapters import api as adapter_names
from choline_data.cli.app import app
from choline_data.client import FirehoseDataset, collate
from choline_data.client.loader import Loader
from choline_data.client.maps import FirehoseMap
from choline_data.client.options import MakingOptions, ReaderOptions, StreamOptions
from choline_data.client.sample_source import PlaceOptions
from choline_data.order.recipe import Recipe
from choline_data.streams.sample_stream import SampleStream
from choline_data.tokens.token_stream import TokenStream
from choline_data.views import TextStream

HERE = Path(__file__).parent
NOTE = "`docs/generate_reference.py` makes this page from the code. A test fails if the page is out of date."
KEYWORDS = "<!-- keywords: made by docs/generate_reference.py -->", "<!-- end of keywords -->"
GROUPS = {
    "What is streamed": StreamOptions,
    "Where it is read from": PlaceOptions,
    "How samples are made": MakingOptions,
    "Who reads": ReaderOptions,
}
# The page shows only these members of a recipe. The other members are for the order and the server.
RECIPE = ("digest", "to_json", "from_json", "in_pass")
VIEWS = {"samples": SampleStream, "text": TextStream, "tokens": TokenStream}


def main() -> None:
    """Writes the three pages."""
    (HERE / "commands.md").write_text(commands_page())
    (HERE / "api.md").write_text(api_page())
    training = HERE / "training.md"
    training.write_text(with_keywords(training.read_text()))


# --- The table of keywords


def keyword_groups() -> dict[str, dict[str, str]]:
    """Returns each group of keywords of `FirehoseDataset`, with one line of meaning for each keyword."""
    listed = re.compile(r"^- (\w+): (.+)$", re.MULTILINE)
    return {title: dict(listed.findall(inspect.getdoc(options.of) or "")) for title, options in GROUPS.items()}


def keyword_table() -> str:
    """Returns a table for each group of keywords: keyword, type, default and meaning."""
    keywords = dict(inspect.signature(FirehoseDataset).parameters)
    lines: list[str] = []
    for title, meanings in keyword_groups().items():
        lines += [f"**{title}**", "", "| keyword | type | default | meaning |", "| --- | --- | --- | --- |"]
        for name, meaning in meanings.items():
            keyword = keywords[name]
            default = "required" if keyword.default is keyword.empty else f"`{keyword.default!r}`"
            lines.append(f"| `{name}` | `{keyword.annotation.replace(' | ', ' or ')}` | {default} | {cell(meaning)} |")
        lines.append("")
    return "\n".join(lines)


def with_keywords(page: str) -> str:
    """Returns the text of the page, with a new table in place of the text between the two marks."""
    begin, end = KEYWORDS
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{keyword_table()}\n{end}{after}"


# --- The reference of commands


def commands_page() -> str:
    """Returns the page of all commands, with their arguments and options."""
    lines = ["# Commands", "", NOTE, ""]
    lines += ["Every command answers `--help`. An error is one line on standard error, with a remedy. Exit codes:", ""]
    lines += ["| code | meaning |", "| ---: | --- |", "| 0 | The command succeeded. |"]
    lines += ["| 1 | An error, or a fault that `verify` found. |", "| 2 | The command line is not valid. |"]
    lines += ["| 3 | The source can be read in two ways. Choose with the flags that the message names. |"]
    lines += ["| 130 | The command was interrupted. Nothing half-done was published. |", ""]
    for path, command in walk(typer.main.get_command(app), "choline-data"):
        lines += command_section(path, command)
    return "\n".join(lines)


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the commands below this one that are not groups, each with its full name."""
    for name, child in getattr(command, "commands", {}).items():
        if getattr(child, "commands", None):
            yield from walk(child, f"{path} {name}")
        else:
            yield f"{path} {name}", child


def command_section(path: str, command: Any) -> list[str]:
    """Returns the section of one command: its text, its usage, and a table of its parameters."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([path, *(argument_usage(a) for a in arguments), "[OPTIONS]"])
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    lines = [
        f"## {path}",
        "",
        text,
        "",
        "```text",
        usage,
        "```",
        "",
        "| parameter | meaning | default |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{a.metavar}` | {cell(a.help or '')} | |" for a in arguments]
    lines += [f"| {option_names(o)} | {cell(o.help or '')} | {option_default(o)} |" for o in options]
    return [*lines, ""]


def argument_usage(argument: Any) -> str:
    """Returns an argument as the usage line shows it."""
    name = argument.metavar + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def option_names(option: Any) -> str:
    """Returns the spellings of an option, with the name of its value."""
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(f"`{name}{value}`" for name in [*option.opts, *option.secondary_opts])


def option_default(option: Any) -> str:
    """Returns the default of an option; empty if there is none."""
    if option.envvar:
        return f"`{option.envvar}`"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default in ("", None) or option.multiple:
        return f"`{option.opts[0]}`" if option.is_flag and option.default else ""
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


# --- The reference of the Python API


def api_page() -> str:
    """Returns the page of the Python API: the public classes, the views and the errors."""
    lines = ["# Python API", "", NOTE, ""]
    lines += [
        "`choline_data.FirehoseDataset` is the entry point. `choline_data.client.collate` is for a plain `DataLoader`."
    ]
    lines += ["All errors are in `choline_data.errors`.", ""]
    for title, kind in {
        "FirehoseDataset": FirehoseDataset,
        "Loader": Loader,
        "FirehoseMap": FirehoseMap,
        "Recipe": Recipe,
    }.items():
        lines += class_section(title, kind)
    lines += ["## collate", "", *code(f"collate{signature(collate)}"), summary(collate), ""]
    lines += ["## Views", "", "`view=` says what each position carries:", "", "| view | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {cell(summary(kind))} |" for name, kind in VIEWS.items()]
    return "\n".join([*lines, "", *adapter_section(), *error_section()])


def adapter_section() -> list[str]:
    """Returns the section of public names for adapters: the values first, then the functions, each with its text."""
    named = {name: getattr(adapter_names, name) for name in adapter_names.__all__}
    constants = {name: value for name, value in named.items() if isinstance(value, int)}
    classes = {name: kind for name, kind in named.items() if isinstance(kind, type) and not issubclass(kind, Exception)}
    lines = ["## Adapters", "", summary(adapter_names), ""]
    lines += ["[Writing an adapter](extend.md#write-an-adapter) shows how they work together.", ""]
    for name, kind in classes.items():
        shown = code(f"{name}{signature(kind)}") if is_dataclass(kind) else []
        lines += [f"### {name}", "", *shown, summary(kind), ""]
        for of, member in public_members(kind):
            if inspect.isfunction(member):
                lines += [*code(f"{name}.{of}{signature(member)}"), summary(member), ""]
    for name, function in named.items():
        if inspect.isfunction(function):
            lines += [f"### {name}", "", *code(f"{name}{signature(function)}"), summary(function), ""]
    lines += ["| constant | value |", "| --- | ---: |"]
    return [*lines, *(f"| `{name}` | {value:,} |" for name, value in constants.items()), ""]


def class_section(title: str, kind: type) -> list[str]:
    """Returns the section of a class: its text, its constructor, and its public properties and methods in the order of
    the code.
    """
    lines = [f"## {title}", "", summary(kind), ""]
    if kind is FirehoseDataset:
        lines += ["[Training](training.md#every-keyword) lists every keyword.", ""]
    elif kind is not Recipe:
        lines += code(f"{title}{signature(kind)}")
    for name, member in public_members(kind):
        lines += [f"### {title}.{name}", ""]
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            lines += code(f"{name}{signature(function)}")
        lines += [summary(member), ""]
    return lines


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Returns the documented properties and methods of a class, in the order of the code."""
    for name, member in vars(kind).items():
        if (name in RECIPE) if kind is Recipe else (not name.startswith("_") and inspect.getdoc(member)):
            yield name, member


def error_section() -> list[str]:
    """Returns the section of the errors, each with its reason, in the order of the tree."""
    lines = ["## Errors", ""]
    lines += ["A message may change between releases. A reason does not change, and it is the same on the wire.", ""]
    lines += ["| error | reason | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| {'· ' * depth}`{kind.__name__}` | `{kind.reason}` | {cell(summary(kind))} |"
        for depth, kind in error_tree(errors.CholineDataError, 0)
    ]
    return [*lines, ""]


def error_tree(kind: type[errors.CholineDataError], depth: int) -> Iterator[tuple[int, type[errors.CholineDataError]]]:
    """Yields the classes of the module below this class, each after its base."""
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_tree(child, depth + 1)


def signature(function: Any) -> str:
    """Returns the parameters with their types, without `self`, one on each line if they are many."""
    parts, star = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts, star = [*parts, "*"], True
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        hint = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        value = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{stars}{name}{hint}{value}")
    returned = inspect.signature(function).return_annotation
    arrow = f" -> {returned}" if isinstance(returned, str) and returned != "None" else ""
    line = f"({', '.join(parts)}){arrow}"
    return line if len(line) < 90 else "(\n    " + ",\n    ".join(parts) + f",\n){arrow}"


def code(text: str) -> list[str]:
    """Returns a block of code that is shown but not run as a test."""
    return ["```text", text, "```", ""]


def summary(thing: Any) -> str:
    """Returns the docstring, each paragraph on its own lines of at most 120 columns."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(p.split()), 120, break_long_words=False) for p in paragraphs)


def cell(text: str) -> str:
    """Returns text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
