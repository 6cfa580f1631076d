"""Parses a whole XML document. Entities that the document declares are refused, and no other file is loaded."""

from __future__ import annotations

from xml.parsers import expat

from choline_data.adapters.text_records.xml_elements import XmlElement, local_name
from choline_data.errors import one_line

MAX_DEPTH = 200
MAX_ELEMENTS = 5_000_000


def xml_tree(data: bytes) -> XmlElement:
    """Returns the root element. Names lose their prefixes. Raises ValueError if the document is not XML or is hostile."""
    top = XmlElement("", {})
    opened = [top]
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(opened) > MAX_DEPTH or count > MAX_ELEMENTS:
            raise ValueError(f"above {MAX_DEPTH} levels of elements, or above {MAX_ELEMENTS:,} elements")
        element = XmlElement(local_name(name), {local_name(k): v for k, v in attributes.items()})
        opened[-1].parts.append(element)
        opened.append(element)

    def end(_: str) -> None:
        opened.pop()

    def refuse(name: str, *_: object) -> None:
        raise ValueError(f"the entity {one_line(name, 40)!r} is refused: entities can grow, or load other files")

    def text(data: str) -> None:
        opened[-1].parts.append(data)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = parser.SkippedEntityHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {one_line(error, 120)}") from error
    return top.children()[0]
