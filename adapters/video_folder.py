"""Reads folders of videos, with their captions or labels from a file or from the names, as in folders of audio clips.

- `metadata.csv` or `metadata.jsonl` with `file_name`, as on the Hub.
- Texts with the name of a video are its caption (`a.txt`) or its subtitles with their times (`a.en.vtt`).
- The folders are the label. Lists such as `trainlist01.txt` (UCF101) decide the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from choline_data.adapters.audio_folder import AudioFolder, clips_of
from choline_data.adapters.base import FormatClaim, Source


@dataclass(frozen=True)
class VideoFolder(AudioFolder):
    """Reads one video for each row, without decoding it. `labels` selects the source of labels or captions."""

    column: ClassVar[str] = "video"
    text: ClassVar[str] = "caption"


ADAPTER = VideoFolder


def detect(source: Source) -> list[FormatClaim]:
    """Claims the videos of a source. Claims nothing if more than half as many other data files are left that do not
    describe the videos.
    """
    return clips_of(source, VideoFolder)
