"""Detects the encoding of bytes that state none: chardet's language models, weighted by how plausible each reading is."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from choline_data.adapters.reading.plausible import defects

SAMPLE_BYTES = 24 << 10
_MANY = 10  # non-ASCII bytes in a Latin script; with fewer bytes, only a very clear guess is accepted
_MANY_OTHERS = 20  # non-ASCII bytes in another script; with fewer bytes, the user is asked
# The first guess is accepted if the second has at most this share of its score.
_CLEAR = 0.75
_CLEAR_OF_FEW = 0.4  # the same share for few bytes in a Latin script
# Two encodings may share most characters. If one of them gives this many more defects, the other is the clear guess.
_TWIN_DEFECTS, _TWIN_TIMES = 3.0, 4.0
_DOUBTFUL = 0.15  # a text with more defects than this is not accepted
_WEIGHT = 4.0  # the weight of implausible characters against chardet's confidence
_RARE = 0.9
_DOUBLE_BYTES = ("cp932", "euc_jp", "cp949", "gb18030", "big5")
# Names that chardet reports for encodings of which we read a common superset.
_WIDER = {
    "shift_jis_2004": "cp932", "shift_jisx0213": "cp932", "shift_jis": "cp932", "euc_jis_2004": "euc_jp",
    "euc_jisx0213": "euc_jp", "iso2022_jp_2": "iso2022_jp", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949",
    "iso8859-1": "cp1252", "tis-620": "cp874", "iso8859-11": "cp874",
}  # fmt: skip
# fmt: off
_COMMON = frozenset({
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp437", "cp850",
    "cp852", "cp866", "cp874", "cp932", "cp949", "cp950", "big5", "big5hkscs", "euc_jp", "gb18030",
    "iso2022_jp", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-13",
    "iso8859-15", "koi8-r", "koi8-u", "mac-cyrillic", "mac-roman",
})
# fmt: on
_OFFERED = ("cp1252", "iso8859-15", "cp1250", "iso8859-1")  # encodings of Latin scripts that are offered if they fit
_MOST_LIKELY = 4
_COMPOSED = b"\xa4\xd4"  # EUC-KR writes rare syllables as single letters, after this character
_EBCDIC = re.compile(r"cp(037|273|424|500|875|1026|1140)$")


@dataclass(frozen=True)
class EncodingGuess:
    """An encoding that decodes the sample, the sample's text in it, and a score. Only ratios of scores have a meaning."""

    encoding: str
    text: str
    score: float
    defects: float  # weighted marks of a wrong encoding
    others: int  # non-ASCII characters

    @property
    def is_doubtful(self) -> bool:
        """Whether the text has so many defects that the encoding must be wrong."""
        return self.defects > _DOUBTFUL * self.others


def decoded_or_none(data: bytes, encoding: str) -> str | None:
    """Decodes bytes that may end inside a character. Returns None if the bytes are not in this encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except (UnicodeError, LookupError, ValueError):
        return None


@lru_cache(maxsize=8)
def guesses(sample: bytes) -> tuple[EncodingGuess, ...]:
    """Returns the encodings that fit the sample, best first. Leaves out an encoding if a better one gives the same text."""
    import chardet  # imported late, because chardet loads its language models

    detected: list[dict[str, Any]] = [
        dict(one) for one in chardet.detect_all(sample[:SAMPLE_BYTES], ignore_threshold=True, compat_names=False)
    ]
    every: dict[str, EncodingGuess] = {}
    for one in detected:
        for encoding in dict.fromkeys((_WIDER.get(one["encoding"], one["encoding"]), one["encoding"])):
            if encoding == "cp949" and _COMPOSED in sample:
                encoding = "euc_kr"
            guess = _guess(sample, encoding, one["confidence"]) if encoding else None
            if guess is not None:
                if guess.text not in every or every[guess.text].score < guess.score:
                    every[guess.text] = guess
                break
    ranked = sorted(every.values(), key=lambda guess: -guess.score)
    if not ranked or ranked[0].is_doubtful:
        # chardet does not report some East Asian encodings that may be right. The user is asked about them.
        more = [_guess(sample, encoding, 0.01) for encoding in _DOUBLE_BYTES]
        ranked = [*(guess for guess in more if guess is not None and not guess.is_doubtful), *ranked]
    return tuple(ranked)


def _guess(sample: bytes, encoding: str, confidence: float) -> EncodingGuess | None:
    if encoding in ("utf-8", "ascii") or _EBCDIC.match(encoding):
        return None
    text = decoded_or_none(sample, encoding)
    if text is None:
        return None
    wrong, others = defects(text), max(len(text) - len(text.encode("ascii", "ignore")), 1)
    trust = max(0.02, 1 - _WEIGHT * wrong / others) * (1 if encoding in _COMMON or encoding[:3] == "utf" else _RARE)
    return EncodingGuess(encoding, text, confidence * trust, wrong, others)


def offered(found: Sequence[EncodingGuess], sample: bytes) -> tuple[EncodingGuess, ...]:
    """Returns the encodings to choose from: the likely ones, and the usual ones that fit. Each gives another text.

    If a usual and a rare encoding give the same text, the usual one is listed in place of the rare one.
    """
    usual = [guess for encoding in _OFFERED if (guess := _guess(sample, encoding, 0.01)) is not None]
    if any(guess.encoding == "cp1252" for guess in usual):
        usual = [guess for guess in usual if guess.encoding != "iso8859-1"]  # cp1252 is a superset of its characters
    by_text = {guess.text: guess for guess in reversed(usual)}
    likely = [by_text.pop(guess.text, guess) for guess in found[:_MOST_LIKELY]]
    more = [guess for guess in by_text.values() if not guess.is_doubtful]
    likely += sorted(more, key=lambda guess: _OFFERED.index(guess.encoding))
    return tuple(likely)


def is_clear(found: Sequence[EncodingGuess], sample: bytes) -> bool:
    """Whether the first guess is right beyond doubt."""
    if not found or found[0].is_doubtful:
        return False
    best = found[0]
    latin = not any(char > "\u024f" and char.isalpha() for char in best.text)
    many = sum(byte > 0x7F for byte in sample) >= (_MANY if latin else _MANY_OTHERS)
    if many or best.encoding.startswith("utf"):
        return all(_is_worse(guess, best) for guess in found[1:])
    ratio = found[1].score / best.score if len(found) > 1 else 0.0
    return latin and ratio < _CLEAR_OF_FEW


def _is_worse(guess: EncodingGuess, best: EncodingGuess) -> bool:
    """Whether a guess is clearly worse: its score is much lower, or it differs only in characters that are implausible."""
    if guess.score < _CLEAR * best.score:
        return True
    if len(guess.text) != len(best.text) or guess.defects < _TWIN_DEFECTS + _TWIN_TIMES * best.defects:
        return False
    alike = sum(a == b for a, b in zip(guess.text, best.text, strict=True)) - (len(best.text) - best.others)
    return alike > best.others // 2
