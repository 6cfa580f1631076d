"""Recognises the names of splits in the names of files and folders: `train`, `x-dev-00.tsv`, `myTestSet`, `split=val`."""

from __future__ import annotations

import re

# The words of the `datasets` library.
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# Words that `datasets` does not know. Without them, rows that are meant for a test would be read as training rows.
_MORE = {
    "train": ("trn", "trainset", "traindata"),
    "validation": ("valset", "validset", "devset", "valdata", "testa"),
    "test": ("tst", "testset", "testdata", "evalset", "testb"),
    "heldout": ("heldout", "holdout"),
}
_SPLIT_OF = {word: split for table in (_KEYWORDS, _MORE) for split, words in table.items() for word in words}
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|wds|tar\.(gz|zst|bz2|xz))$", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HELD_OUT = re.compile(r"(?<![a-z])(held|hold)[-._ ](out)(?![a-z])")
_WORDS = re.compile(r"[-._ =]+")
_SEPARATORS = re.compile(r"[-._ 0-9=]+")


def split_named(word: str) -> str:
    """Returns the split that a name means as a whole, or "". Digits and separators around the word do not matter:
    `train2017` means train.
    """
    words = _words(word)
    if len(words) == 2 and words[0] == "split":
        words = words[1:]
    return _SPLIT_OF.get(words[0], "") if len(words) == 1 else ""


def without_split(name: str, split: str) -> str:
    """Returns the rest of a folder's name without the word of this split: `A` of `trainA`, `bounding_box` of `bounding_box_test`.

    Returns "" if the whole name means a split, and the whole name if it does not contain the word of this split.
    """
    if split_named(name):
        return ""
    if not split or splits_in(name) != (split,):
        return name
    words = _WORDS.split(_HUMP.sub("_", name))
    return "_".join(w for w in words if w and _SPLIT_OF.get(w.lower().strip("0123456789"), "") != split)


def splits_in(name: str) -> tuple[str, ...]:
    """Returns the splits whose words this name of a file or folder contains, in alphabetical order."""
    return tuple(sorted({_SPLIT_OF[word] for word in _words(name) if word in _SPLIT_OF}))


def _words(name: str) -> list[str]:
    plain = _HUMP.sub("_", _ARCHIVE.sub("", name)).lower().replace("t10k-", "test-")  # MNIST's test images
    return [word for word in _SEPARATORS.split(_HELD_OUT.sub(r"\1\2", plain)) if word]
