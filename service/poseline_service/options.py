"""What a session has been asked for, and what that means for its tracks.

A value: `session.update` makes another one, or raises and leaves the session with what it had.
"""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from poseline.manifest import ModelManifest
from poseline.online import class_mask
from poseline.protocol import StreamOptions
from poseline.translation import changed_options, decoding_options
from poseline_service.tracks import TrackOptions

_CHOSEN = ("classes", "gap_reset", "partials", "scores_hz", "on_overload")
"""Options that are in effect as the client chose them; the rest may be the model's."""


class SessionOptions:
    """Raises InputError, UnsupportedOption where `choice` asks for what cannot be."""

    def __init__(self, choice: StreamOptions, manifest: ModelManifest) -> None:
        self.choice = choice
        self._manifest = manifest
        decoding, allowed = decoding_options(choice, manifest.decoding), class_mask(manifest, choice.classes)
        self.of_track = TrackOptions(decoding, allowed, choice.gap_reset, choice.scores_hz, live=True)

    @property
    def gap_reset(self) -> float:
        return self.choice.gap_reset

    @property
    def partials(self) -> bool:
        """The client hears of segments before they are final."""
        return self.choice.partials != "none"

    def changed(self, changes: Any) -> SessionOptions:
        """Raises InputError, UnsupportedOption, MalformedMessage."""
        return SessionOptions(changed_options(self.choice, changes), self._manifest)

    def effective(self) -> dict[str, Any]:
        """Every option as it holds."""
        decoding = self.of_track.decoding.model_dump(exclude={"updates"})
        return decoding | {name: to_builtins(getattr(self.choice, name)) for name in _CHOSEN}
