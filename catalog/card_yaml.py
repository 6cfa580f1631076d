"""The YAML of cards: only mappings, lists and texts, at most two levels deep.

The reader resolves no types, follows no aliases and constructs no objects, so a card can neither run code nor expand in
memory.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import yaml

from choline_data.errors import SourceFormatError

Value: TypeAlias = "str | list[Value] | dict[str, Value]"

MAX_DEPTH: Final = 8
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = ("~", "null", "Null", "NULL")


def parse_yaml(text: str, where: str) -> dict[str, Value]:
    """Parses YAML text to a mapping; every scalar stays text. Raises SourceFormatError, which names the wrong line."""
    try:
        value = _build(yaml.parse(text, Loader=_LOADER), where)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SourceFormatError(f"{where}{line} is not YAML: {error.problem}.", remedy="Correct that line.") from error
    except yaml.YAMLError as error:
        raise SourceFormatError(f"{where} is not YAML: {error}.", remedy="Save it as plain UTF-8 text.") from error
    if not isinstance(value, dict):
        raise SourceFormatError(f"{where} has no `key: value` lines.", remedy="Begin with `name:` and `source:`.")
    return value


def _build(events: Any, where: str) -> Value:
    """Returns one value from the parser's events. Uses its own stack, so deep nesting can't exhaust the interpreter's stack."""
    root: list[Value] = []
    stack: list[tuple[Value, list[str]]] = [(root, [])]
    documents = 0
    for event in events:
        holder, key = stack[-1]
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refused(event, where, "a second document")
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            value = _value(event, where)
            if isinstance(holder, list):
                holder.append(value)
            elif not isinstance(holder, dict):
                raise AssertionError("only mappings and lists are on the stack")
            elif key:
                holder[key.pop()] = value
            elif not isinstance(value, str):
                raise _refused(event, where, "a key that is not text")
            elif value in holder:
                raise _refused(event, where, f"the key {value[:60]!r} a second time")
            else:
                key.append(value)
            if not isinstance(value, str):
                if len(stack) > MAX_DEPTH:
                    raise _refused(event, where, f"more than {MAX_DEPTH} levels")
                stack.append((value, []))
    return root[0] if root else ""


def _value(event: Any, where: str) -> Value:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _refused(event, where, "an anchor or alias")
    if getattr(event, "tag", None) not in (None, "!"):
        raise _refused(event, where, f"the tag {event.tag}")
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    text = str(event.value)
    return "" if event.style in (None, "") and text in _NULLS else text


def _refused(event: Any, where: str, what: str) -> SourceFormatError:
    return SourceFormatError(
        f"{where} line {event.start_mark.line + 1} has {what}.",
        remedy="A card is plain `key: value` lines, lists and texts, each key once.",
    )
