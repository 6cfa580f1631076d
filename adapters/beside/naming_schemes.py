"""Reads what the names of media say about them: the schemes of well-known collections, and `cat.17.jpg` in one folder.

The names of Market-1501 begin with the person, those of RAVDESS hold a code of the emotion. A folder of such files has one
scheme: almost all names follow it. Names like `cat.17` and `dog.4` state a class only if each word occurs several times, and
is no word of cameras, such as `IMG`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.media_paths import path_of
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.splits import NO_SPLIT

WORDS = "words"
_SHARE = 0.95
_MIN_FILES = 2


@dataclass(frozen=True)
class NamingScheme:
    """A scheme of names. `words` says what the codes of a group mean."""

    pattern: re.Pattern[str]
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    whole: bool = False  # whether the folders say nothing more, so that the scheme counts more than classes by folder


_RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_EMODB = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
_SAVEE = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
_SCHEMES: Mapping[str, NamingScheme] = {
    "market-1501": NamingScheme(
        re.compile(r"(?P<label>-1|\d{4})_c(?P<camera>\d)s(?P<sequence>\d)_(?P<frame>\d{6})_(?P<box>\d{2})"), whole=True
    ),
    "dukemtmc": NamingScheme(re.compile(r"(?P<label>\d{4})_c(?P<camera>\d)_f(?P<frame>\d{7})"), whole=True),
    "veri": NamingScheme(re.compile(r"(?P<label>\d{4})_c(?P<camera>\d{3})_(?P<frame>\d{8})_\d"), whole=True),
    "mars": NamingScheme(re.compile(r"(?P<label>\d{4}|00-1)C(?P<camera>\d)T(?P<track>\d{4})F(?P<frame>\d{3,4})"), whole=True),
    "utkface": NamingScheme(re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d{8,}")),
    "crema-d": NamingScheme(
        re.compile(r"(?P<speaker>\d{4})_(?P<sentence_code>[A-Z]{3})_(?P<label>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<intensity>LO|MD|HI|XX?)")
    ),
    "ravdess": NamingScheme(
        re.compile(
            r"(?P<modality>0[123])-(?P<channel>0[12])-(?P<label>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
            r"-(?P<repetition>0[12])-(?P<speaker>\d{2})"
        ),
        {"label": {f"{at:02}": word for at, word in enumerate(_RAVDESS, 1)}},
        whole=True,
    ),
    "emodb": NamingScheme(
        re.compile(r"(?P<speaker>\d{2})(?P<sentence_code>[ab]\d{2})(?P<label>[WLEAFTN])(?P<version>[a-f])"), {"label": _EMODB}
    ),
    "savee": NamingScheme(
        re.compile(r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<label>sa|su|[adfhn])(?P<take>\d{2})"), {"label": _SAVEE}, whole=True
    ),
    "tess": NamingScheme(
        re.compile(r"(?P<speaker>[OY]AF)_(?P<word>[A-Za-z]+)_(?P<label>angry|disgust|fear|happy|neutral|ps|sad)"), whole=True
    ),
    WORDS: NamingScheme(re.compile(r"(?P<label>[^\W\d_]{3,}(?:[ _-][^\W\d_]+)*)[._ -]*\d+")),
}  # fmt: skip
# words that cameras and programs write before numbers, or that name a view of the same thing
_NO_CLASSES = frozenset(
    [
        "img",
        "image",
        "images",
        "dsc",
        "dscn",
        "dscf",
        "pic",
        "pics",
        "picture",
        "pictures",
        "photo",
        "photos",
        "frame",
        "frames",
        "scan",
        "page",
        "file",
        "sample",
        "samples",
        "test",
        "train",
        "val",
        "valid",
        "video",
        "clip",
        "audio",
        "rec",
        "recording",
        "track",
        "screenshot",
        "capture",
        "cam",
        "camera",
        "left",
        "right",
        "front",
        "rear",
        "back",
        "rgb",
        "depth",
        "mask",
        "label",
        "input",
        "output",
        "target",
        "source",
        "top",
        "bottom",
        "view",
        "slice",
        "tile",
        "patch",
        "item",
        "row",
        "line",
        "seg",
        "part",
        "chunk",
        "shard",
        "color",
        "gray",
        "utt",
        "utterance",
        "sentence",
        "speaker",
        "spk",
        "wav",
        "sound",
        "take",
        "example",
        "data",
        "batch",
    ]
)


def scheme_of(media: Sequence[SourceFile], *, in_classes: bool) -> str:
    """Returns the name of the scheme that the names of these media follow, or "". `in_classes` says that folders are classes."""
    stems = [_stem(f.name) for f in media]
    for name, scheme in _SCHEMES.items():
        if name == WORDS or (in_classes and not scheme.whole) or len(stems) < _MIN_FILES:
            continue
        if sum(scheme.pattern.match(stem) is not None for stem in stems) >= _SHARE * len(stems):
            return name
    return WORDS if not in_classes and _have_words(media) else ""


def values_in(name: str, scheme: str) -> dict[str, str]:
    """Returns what the name of a medium says by this scheme. Empty if the name does not follow the scheme."""
    known = _SCHEMES[scheme]
    match = (known.pattern.fullmatch if scheme == WORDS else known.pattern.match)(_stem(name))
    found = match.groupdict() if match else {}
    return {key: known.words.get(key, {}).get(value, value) for key, value in found.items() if value is not None}


def with_parts(media: Sequence[SourceFile], scheme: str) -> list[SourceFile]:
    """Returns the media with splits. The folders of a scheme beside those for training and test are parts of their own."""
    if not _SCHEMES[scheme].whole:
        return list(media)
    return [_with_folder(file) if file.split == NO_SPLIT else file for file in media]


def _with_folder(file: SourceFile) -> SourceFile:
    folder = re.sub(r"[^\w.-]+", "_", "".join(parts(file.name)[-2:-1]))
    return SourceFile(file.path, file.name, file.size, file.checksum, folder, file.config)


def _have_words(media: Sequence[SourceFile]) -> bool:
    """Whether all names for training consist of a word and a number, and each of at least two words occurs several times."""
    stems = [_stem(f.name) for f in media if f.split in ("", "train")]
    matches = [_SCHEMES[WORDS].pattern.fullmatch(stem) for stem in stems]
    labels = Counter(match["label"].lower() for match in matches if match)
    if not all(matches) or len(labels) < 2 or min(labels.values()) < 2:
        return False
    return not any(set(re.split(r"[\W_]+", label)) & _NO_CLASSES for label in labels)


def _stem(name: str) -> str:
    # `path_of` is in lower case; only its length counts here.
    last = parts(name)[-1]
    return last[: len(path_of(last)[-1])]
