"""Counts the defects in a decoded text. Defects are characters that typically appear when bytes are decoded in a wrong encoding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

# Matches UTF-8 that was decoded as another encoding and stored again (é as Ã©, ’ as â€™, и as Ð¸ or Рё, の as ã‚), and
# lost characters.
_CYRILLIC_CONTINUED = "[\u00a0-\u00bfЁЂ-ЏЎЄЅІЇҐґёђ-џўєѕії‘-”‚-„†‡•…‰‹›€™№–—]"
_CONTINUED = "[\u0080-\u00bfŒœŠšŽžŸƒˆ˜–—‘-”„†‡•…‰‹›€™]"
DOUBLE_ENCODED = (
    "Ã[\u0080-\u00bf]|â(?:€[™œ\u009d˜“”¦]|\u0080[\u0080-\u00bf])|Â[\u00a0-\u00bf]|ï¿½|\ufffd"
    f"|(?:[ÐÑÎÏ×ØÙ]{_CONTINUED}){{2}}|(?:[ã-í]{_CONTINUED}{{2}}){{2}}|(?:à[¸¹]{_CONTINUED}){{2}}"
    f"|(?:[Н-С]{_CYRILLIC_CONTINUED}){{3}}|(?:[а-н]{_CYRILLIC_CONTINUED}{{2}}){{2}}"
)
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\xad\ufeff"


def _class(belongs: Callable[[str], bool], end: int = 0x3000) -> str:
    """Returns the non-ASCII characters for which `belongs` is true, as the inside of a character class."""
    return "".join(re.escape(chr(code)) for code in range(0x80, end) if belongs(chr(code)))


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char) in ("So", "Sm", "Sc", "No", "Sk", "Cf") and char not in _INVISIBLE


@cache
def _marks() -> tuple[tuple[float, re.Pattern[str]], ...]:
    """Returns (weight, pattern) for each kind of defect."""
    letter = r"[^\W\d_]"
    lower = _class(lambda c: unicodedata.category(c) == "Ll", 0x600)
    upper = _class(lambda c: unicodedata.category(c) == "Lu", 0x600)
    inside = _class(lambda c: _is_symbol(c) or c in "ªº†‡‰‹›„‚«»¿¡§¶ƒ")
    before = _class(lambda c: (_is_symbol(c) and c not in "°£€") or c in "¶†‡‰ƒ")
    latin, eastern = "A-Za-z\u00c0-\u024f", "\u0370-\u0e7f\u1100-\u11ff\uac00-\ud7a3"
    return (
        (5, re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff]")),
        (0.5, re.compile(f"(?<={letter})[{inside}](?={letter})")),  # a symbol inside a word
        (0.5, re.compile(f"[{before}](?={letter})|¤")),
        (1, re.compile(f"[{lower}](?=[A-Z{upper}])|[a-z](?=[{upper}])")),  # a capital after a small letter
        (1, re.compile(f"[{latin}](?=[{eastern}])|[{eastern}](?=[{latin}])")),  # two alphabets in one word
        (1, re.compile("[\u0370-\u03ff](?=[\u0400-\u0e7f])|[\u0400-\u052f](?=[\u0370-\u03ff\u0530-\u0e7f])")),
        (1, re.compile("[\u0590-\u05ff](?=[\u0600-\u06ff])|[\u0600-\u06ff](?=[\u0590-\u05ff])")),
        (1, re.compile("[\u00c0-\u024f](?=[\u3040-\u9fff])|[\u3040-\u9fff](?=[\u00c0-\u024f])")),
        (0.3, re.compile("[\uff61-\uff9f]")),  # half-width katakana
    )


def reads_as_text(text: str) -> bool:
    """Whether nearly all characters can be printed, and few of them are signs of a wrong encoding."""
    odd = sum(not char.isprintable() and not char.isspace() for char in text)
    others = len(text) - len(text.encode("ascii", "ignore"))
    return odd * 100 <= len(text) and defects(text) <= 0.15 * max(others, 7)


def defects(text: str) -> float:
    """Returns the weighted number of signs of a wrong encoding in a text."""
    return sum(weight * len(pattern.findall(text)) for weight, pattern in _marks())
