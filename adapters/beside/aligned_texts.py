"""Reads texts with times that describe one recording: subtitles, TextGrid of Praat, ELAN, and the labels of TIMIT.

The result has the parts with their times. It also has `transcription`, the whole text, if the file marks the tier of the words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.text_records.subtitles import cues_in
from choline_data.adapters.text_records.xml_records import records_in
from choline_data.errors import SourceDamagedError

Values = dict[str, Any]

# Praat reads only numbers, texts and flags that stand alone; everything else in a TextGrid is a comment.
_TOKEN = re.compile(r'(?<!\S)(?:"(?:[^"]|"")*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|<\w+>)(?!\S)')
_SAMPLES = re.compile(r"^\s*(\d+)\s+(\d+)\s+(.*)$")
# TIMIT: a line begins with the numbers of the first and the last audio sample of a sentence
_TIMES = re.compile(r"^\d+ \d+ ")
# The names of tiers that contain the spoken words. Tiers of phones, tones and notes have other names.
_SPOKEN = re.compile(r"\b(?:words?|ort|text|transcri\w*|utterances?|sentences?|speech|orthograph\w*)\b", re.IGNORECASE)


def aligned_text(data: bytes, name: str, suffix: str) -> Values:
    """Parses a file of times and texts that belongs to a recording. Returns its values. `suffix` is the extension of
    the file, in lower case.
    """
    reader = _READERS.get(suffix)
    if reader is not None:
        return reader(data, name)
    return {"transcription": _TIMES.sub("", decoded(data, name)[0].strip())}


def _subtitles(data: bytes, name: str) -> Values:
    text = decoded(data, name)[0]
    cues = [record.values for record in cues_in(text.splitlines(), name) if not record.fault]
    return _with_text({"cues": [{key: cue[key] for key in ("start", "end", "text")} for cue in cues]}, "cues")


def _timit(column: str) -> Callable[[bytes, str], Values]:
    def read(data: bytes, name: str) -> Values:
        lines = decoded(data, name)[0].splitlines()
        matches = [match for match in map(_SAMPLES.match, lines) if match]
        if len(matches) < len([line for line in lines if line.strip()]):
            return {column: decoded(data, name)[0].strip()}
        return {column: [{"first": int(m[1]), "last": int(m[2]), "text": m[3].strip()} for m in matches]}

    return read


def _textgrid(data: bytes, name: str) -> Values:
    tokens = iter(_TOKEN.findall(decoded(data, name)[0]))
    try:
        if '"TextGrid"' not in (next(tokens), next(tokens)):
            raise SourceDamagedError(f"{name} is not a TextGrid.", remedy="Save it as a text file in Praat.")
        next(tokens), next(tokens), next(tokens)
        tiers = [_tier(tokens) for _ in range(_count(next(tokens)))]
    except (StopIteration, RuntimeError, ValueError) as error:
        raise SourceDamagedError(
            f"{name}: the TextGrid ends too early.", remedy="Save it again as a text file in Praat."
        ) from error
    return _of_tiers(tiers)


def _tier(tokens: Iterator[str]) -> Values:
    kind, name = _text(next(tokens)), _text(next(tokens))
    next(tokens), next(tokens)
    parts = []
    for _ in range(_count(next(tokens))):
        start = float(next(tokens))
        end = float(next(tokens)) if kind == "IntervalTier" else start
        parts.append({"start": start, "end": end, "text": _text(next(tokens))})
    return {"name": name, "parts": parts}


def _count(token: str) -> int:
    return int(float(token))


def _text(token: str) -> str:
    if not token.startswith('"'):
        raise ValueError(token)
    return token[1:-1].replace('""', '"')


def _elan(data: bytes, name: str) -> Values:
    documents = records_in(data, name, "ANNOTATION_DOCUMENT")
    if not documents:
        raise SourceDamagedError(f"{name} is not an annotation document of ELAN.", remedy="Save it again in ELAN.")
    slots = {
        s.get("@TIME_SLOT_ID"): int(s["@TIME_VALUE"]) / 1000
        for s in _listed(_at(documents[0], "TIME_ORDER", "TIME_SLOT"))
        if str(s.get("@TIME_VALUE", "")).isdigit()
    }
    return _of_tiers([_elan_tier(tier, slots) for tier in _listed(documents[0].get("TIER"))])


def _elan_tier(tier: Mapping[str, Any], slots: Mapping[Any, float]) -> Values:
    parts = []
    for annotation in _listed(tier.get("ANNOTATION")):
        aligned = annotation.get("ALIGNABLE_ANNOTATION") or annotation.get("REF_ANNOTATION") or {}
        start, end = (slots.get(aligned.get(key)) for key in ("@TIME_SLOT_REF1", "@TIME_SLOT_REF2"))
        parts.append({"start": start, "end": end, "text": str(aligned.get("ANNOTATION_VALUE") or "")})
    return {"name": str(tier.get("@TIER_ID", "")), "speaker": tier.get("@PARTICIPANT"), "parts": parts}


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _listed(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def _of_tiers(tiers: Sequence[Values]) -> Values:
    """Returns the tiers. Adds the text of the tier that holds the words, if exactly one tier has such a name or there
    is only one tier.
    """
    values: Values = {"tiers": list(tiers)}
    spoken = [tier for tier in tiers if _SPOKEN.search(tier["name"].replace("_", " "))] if len(tiers) > 1 else tiers
    return _with_text({**values, "spoken": spoken[0]["parts"]}, "spoken") if len(spoken) == 1 else values


def _with_text(values: Values, key: str) -> Values:
    texts = (" ".join(str(part["text"]).split()) for part in values[key])
    values["transcription"] = " ".join(text for text in texts if text)
    values.pop("spoken", None)
    return values


_READERS: Mapping[str, Callable[[bytes, str], Values]] = {
    "srt": _subtitles,
    "vtt": _subtitles,
    "textgrid": _textgrid,
    "eaf": _elan,
    "phn": _timit("phones"),
    "wrd": _timit("words"),
}
