"""Decides a text's encoding: what the user says, a byte order mark, UTF-8, what the text or its name states, else detection.

If no encoding is clear, the user has to choose (ChoiceNeededError). A text is never decoded by a doubtful guess.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from choline_data.adapters.reading.detection import (
    SAMPLE_BYTES,
    EncodingGuess,
    decoded_or_none,
    guesses,
    is_clear,
    offered,
)
from choline_data.adapters.reading.plausible import reads_as_text
from choline_data.errors import ChoiceNeededError, InvalidOptionError, SourceDamagedError, one_line

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_IN_NAMES = {
    "latin2": "iso8859-2", "cyrillic": "iso8859-5", "arabic": "iso8859-6", "greek": "iso8859-7",
    "hebrew": "iso8859-8", "turkish": "iso8859-9", "baltic": "iso8859-4", "sjis": "shift_jis", "jis": "iso2022_jp",
    "euc": "euc_jp", "gb2312": "gb18030", "hz": "hz", "unicode": "utf-16", "latin1": "cp1252", "utf8": "utf-8",
    "big5": "big5", "koi8": "koi8_r",
}  # fmt: skip
# Labels that files use for a superset of the encoding that the label names, as browsers read them.
_SUPERSETS = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030",
    "euc_kr": "cp949", "iso8859-9": "cp1254", "tis-620": "cp874", "iso8859-11": "cp874",
}  # fmt: skip
_STATED = (
    re.compile(rb"^\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']([\w.:-]{2,40})"),
    re.compile(rb"<meta\s[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE),
    # headers of mails and of PO files, and of Project Gutenberg
    re.compile(rb"^\"?Content-Type:[^\n]{0,200}charset=\"?([\w.:-]{2,40})", re.IGNORECASE | re.MULTILINE),
    re.compile(rb"^Character set encoding:\s*(?:ISO Latin-1 \()?([\w.:-]{2,40})", re.IGNORECASE | re.MULTILINE),
    re.compile(rb"\A(?:[^\n]*\n)?[^\n]*\bcoding[:=][ \t]*([-\w.]{2,40})"),
)
_STATED_BYTES = 4 << 10
_SEVEN_BITS = (("iso2022_jp", (b"\x1b$B", b"\x1b$@")), ("iso2022_kr", (b"\x1b$)C",)), ("hz", (b"~{",)))
_FEW_CONTROLS = 200  # a text has at most one control character in this many bytes
_CONTROLS = tuple(bytes([c]) for c in range(32) if c not in b"\t\n\r\x0c\x08\x1b\x0e\x0f")


@dataclass(frozen=True)
class EncodingDecision:
    """The encoding of a text, or "" and the guesses between which the user has to choose."""

    encoding: str
    found: tuple[EncodingGuess, ...] = ()


def codec_of(label: str) -> str:
    """Returns Python's name of a text encoding, or "" if there is none."""
    try:
        info = codecs.lookup(label)
    except LookupError:
        return ""
    return info.name if info._is_text_encoding else ""


def asked_for(option: str, name: str) -> str:
    """Returns the encoding that the option `encoding` names for this file, or "".

    The option is `NAME`, or `PATTERN=NAME` for the files that match a pattern; several are separated by commas.
    Raises InvalidOptionError if there is no such encoding.
    """
    chosen = ""
    for one in filter(None, option.split(",")):
        pattern, equals, label = one.rpartition("=")
        if not codec_of(label.strip()):
            raise InvalidOptionError(
                f"No encoding {label.strip()!r}.", remedy="Python's names are known: utf-8, cp1252, koi8-r, shift_jis …"
            )
        if not equals or fnmatchcase(name, pattern) or fnmatchcase(name.rsplit("/", 1)[-1], pattern):
            chosen = codec_of(label.strip())
    return chosen


def declared_in(name: str) -> str:
    """Returns the encoding that a file name declares after its last "-" (such as `notes-Latin2.txt`), or ""."""
    match = re.search(r"-([A-Za-z0-9+_]+)~?(\.txt)?$", name)
    if not match:
        return ""
    word = match.group(1).lower()
    return _IN_NAMES.get(word) or codec_of(word)


def stated_in(head: bytes) -> str:
    """Returns the encoding that an XML declaration, an HTML `meta`, a header or an editor's `coding:` line states, or ""."""
    for pattern in _STATED:
        match = pattern.search(head[:_STATED_BYTES])
        if match and codec_of(match.group(1).decode()):
            return codec_of(match.group(1).decode())
    return ""


def decide(sample: bytes, name: str = "", charset: str = "") -> EncodingDecision:
    """Returns the encoding of a text that these bytes represent. They may end inside a character.

    `charset` is what the server stated about the file.
    """
    mark = next((encoding for mark, encoding in _MARKS if sample.startswith(mark)), "")
    if mark:
        return EncodingDecision(mark)
    stated = [label for label in (codec_of(charset), stated_in(sample), declared_in(name)) if label]
    seven = _seven_bits(sample, stated)
    if seven:
        return EncodingDecision(seven)
    wide = _wide(sample, stated) if b"\0" in sample else ""
    if wide:
        return EncodingDecision(wide)
    if decoded_or_none(sample, "utf-8") is not None:
        return EncodingDecision("utf-8")
    for label in stated:
        for encoding in (_SUPERSETS.get(label, label), label):
            if decoded_or_none(sample, encoding) is not None:
                return EncodingDecision(encoding)
    if _is_mostly_utf8(sample):
        return EncodingDecision("utf-8")
    sample = sample_of([sample])
    readings = guesses(sample)
    if is_clear(readings, sample):
        return EncodingDecision(readings[0].encoding, tuple(readings[:4]))
    return EncodingDecision("", offered(readings, sample))


def _seven_bits(sample: bytes, stated: list[str]) -> str:
    """Returns the encoding of text that writes all characters as ASCII bytes with escape sequences, or ""."""
    for encoding, escapes in _SEVEN_BITS:
        known = encoding in stated or escapes[0][:1] == b"\x1b"
        if (
            known
            and escapes[0][0] in sample
            and any(escape in sample for escape in escapes)
            and decoded_or_none(sample, encoding) is not None
        ):
            return encoding
    return ""


def _wide(sample: bytes, stated: list[str]) -> str:
    """Returns UTF-16 or UTF-32 if the text is in one of them without a byte order mark, else "".

    A few NULs in a text do not count.
    """
    for label in stated:
        if label.startswith(("utf-16", "utf-32")) and decoded_or_none(sample, label) is not None:
            return label
    nulls = [sample[at::4].count(0) for at in range(4)]
    quarter = len(sample) // 4
    if quarter >= 2 and sum(nulls) > quarter // 2:
        by_nulls = {"utf-32-le": (2, 3), "utf-32-be": (0, 1), "utf-16-le": (1, 3), "utf-16-be": (0, 2)}
        for encoding, places in by_nulls.items():
            rest = sum(count for at, count in enumerate(nulls) if at not in places)
            enough = all(nulls[at] > quarter * 0.9 for at in places) if "32" in encoding else rest * 4 < sum(nulls)
            text = decoded_or_none(sample, encoding) if enough else None
            if text is not None and reads_as_text(text[:4096]):
                return encoding
    readings = guesses(sample[: SAMPLE_BYTES // 4])
    if readings and readings[0].encoding.startswith(("utf-16", "utf-32")) and reads_as_text(readings[0].text[:4096]):
        return readings[0].encoding
    return ""


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether at least half of the sample's runs of non-ASCII bytes are UTF-8. Then the other runs are damage."""
    runs = re.findall(rb"[\x80-\xff]{2,}", sample)
    good = sum(decoded_or_none(run, "utf-8") is not None and run[0] >= 0xC2 for run in runs)
    return len(runs) > 0 and good * 2 >= len(re.findall(rb"[\x80-\xff]+", sample))


def sample_of(pieces: list[bytes]) -> bytes:
    """Returns different lines with non-ASCII bytes, about equally many from each piece: enough of them to detect an encoding."""
    share = SAMPLE_BYTES // max(len(pieces), 1)
    lines: dict[bytes, None] = {}
    for piece in pieces:
        left = share
        for match in re.finditer(rb"[^\n]*[\x80-\xff][^\n]*\n?", piece):
            line = match.group()[:left]
            left -= len(line) if line not in lines else 0
            lines.setdefault(line)
            if left <= 0:
                break
    return b"".join(lines)


def choice_needed(name: str, decision: EncodingDecision) -> ChoiceNeededError:
    """Returns the error that lists the likely encodings of a file, each with the beginning of the text in it."""
    if not decision.found:
        return ChoiceNeededError(
            f"{name} is not UTF-8 and states no encoding.",
            remedy="Name it: --encoding cp1252, or cp1251, shift_jis ….",
        )
    shown = "; ".join(f"{guess.encoding}: “{_excerpt(decision.found, guess.text)}”" for guess in decision.found)
    options = ", ".join(f"--encoding {guess.encoding}" for guess in decision.found)
    return ChoiceNeededError(f"{name} is not UTF-8, and several encodings fit: {shown}.", remedy=f"Choose: {options}.")


def _excerpt(found: tuple[EncodingGuess, ...], text: str) -> str:
    """Returns the part of the text around the first character in which the readings differ."""
    other = next((guess.text for guess in found if guess.text != text), "")
    at = next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
    start = max(at - 10, text.rfind("\n", 0, at) + 1, 0)
    return one_line(text[start : start + 24].strip(), 40)


def decoded(data: bytes, name: str = "", option: str = "", charset: str = "") -> tuple[str, str]:
    """Returns a whole text and its encoding. Raises ChoiceNeededError if the encoding is not clear."""
    encoding = asked_for(option, name)
    if not encoding:
        decision = decide(data, name, charset)
        if not decision.encoding:
            raise choice_needed(name, decision)
        encoding = decision.encoding
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding), encoding.removesuffix("-sig")
    except UnicodeDecodeError as error:
        text = decoded_or_none(data, encoding)
        if text is None:
            raise not_decodable(name, encoding, data, error.start) from error
        return f"{text}\ufffd", f"{encoding.removesuffix('-sig')}, cut inside the last character"
    except UnicodeError as error:
        raise not_decodable(name, encoding, data, 0) from error


def with_escapes(data: bytes) -> str:
    """Returns a text of unknown encoding: its ASCII characters, and each other byte as an escape such as \\xe9."""
    return data.decode("ascii", "backslashreplace")


def decoded_or_fault(data: bytes, charset: str = "") -> tuple[str, str]:
    """Returns (text, ""), or ("", the reason) if the text cannot be decoded."""
    try:
        return decoded(data, charset=charset)[0], ""
    except (ChoiceNeededError, SourceDamagedError) as error:
        return "", f"its encoding is not clear: {error.message.removeprefix(' ')}"


def for_a_look(data: bytes, name: str = "") -> str:
    """Decodes text in the most likely encoding. Use the result only to examine the text, and never store it."""
    if data.isascii() and b"\0" not in data:
        return data.decode("ascii")
    decision = decide(data, name)
    likely = decision.encoding or next((guess.encoding for guess in decision.found), "latin-1")
    return codecs.getincrementaldecoder(likely)("replace").decode(data)


def not_decodable(name: str, encoding: str, around: bytes, place: int, offset: int = 0) -> SourceDamagedError:
    """Returns the error for bytes that are not valid in their file's encoding. `place` is their offset in the piece `around`."""
    begin = around.rfind(b"\n", 0, place) + 1
    likely = [guess.encoding for guess in guesses(around[begin : place + 4096])[:3]]
    hint = f"such as {', '.join(likely)}" if likely else "such as cp1252"
    byte = f" (0x{around[place]:02X})" if place < len(around) else ""
    return SourceDamagedError(
        f"{name} is not {encoding.removesuffix('-sig').upper()} at byte {offset + place:,}{byte}.",
        remedy=f"If the whole file has another encoding, name it: --encoding NAME ({hint}). Otherwise correct that place.",
    )


def looks_like_text(head: bytes) -> bool:
    """Whether these first bytes are text in an encoding that we read: at most 0.5 % are control characters."""
    if not head or any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    if sum(head.count(c) for c in _CONTROLS) * _FEW_CONTROLS <= len(head):
        return True
    wide = _wide(head, []) if b"\0" in head else ""
    text = decoded_or_none(head[: len(head) // 4 * 4], wide) if wide else None
    return text is not None and sum(c.encode() in _CONTROLS for c in text if c < " ") * _FEW_CONTROLS <= len(text)
