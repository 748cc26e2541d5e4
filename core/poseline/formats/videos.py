"""Which files are videos: told from the name, for a video is opened elsewhere, in a process of its own."""

from __future__ import annotations

from pathlib import Path

INPUT_FORMAT = "video"
"""What `--input-format` calls them, beside the formats of poses."""
MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".m2ts": "video/mp2t",
}
"""By suffix."""


def is_video(source: str, input_format: str | None = None) -> bool:
    """Whether a file is to be watched, not read: because somebody says so, else by its suffix."""
    if input_format is not None:
        return input_format == INPUT_FORMAT
    return Path(source).suffix.lower() in MEDIA_TYPES
