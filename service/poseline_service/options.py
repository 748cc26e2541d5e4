"""What a session has been asked for, and what that means for its tracks.

A value: `session.update` makes another one, or raises and leaves the session with what it had.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import to_builtins

from poseline.enrolment import Vocabulary
from poseline.errors import InputError, UnsupportedOption
from poseline.protocol import StreamOptions
from poseline.translation import changed_options, decoding_options
from poseline_service.remembering import LONGEST
from poseline_service.tracks import TrackOptions

_CHOSEN = ("classes", "gap_reset", "partials", "scores_hz", "on_overload", "capture", "remember")
"""Options that are in effect as the client chose them; the rest may be the model's."""
_SAME = 1e-3
"""Seconds between two look-aheads that are one: clients round."""


class SessionOptions:
    """Raises InputError, UnsupportedOption where `choice` asks for what cannot be."""

    def __init__(self, choice: StreamOptions, vocabulary: Vocabulary) -> None:
        self.choice = choice
        self._vocabulary, manifest = vocabulary, vocabulary.manifest
        self._look_ahead = manifest.look_ahead / manifest.fps
        if choice.look_ahead is not None and not abs(choice.look_ahead - self._look_ahead) <= _SAME:
            what = f"look_ahead is {choice.look_ahead:g} s; model {manifest.name} offers {self._look_ahead:g} s alone"
            raise UnsupportedOption(what, param="options.look_ahead")
        if not 0 <= choice.remember <= LONGEST:
            what = f"remember is {choice.remember:g} s, expected 0 to {LONGEST:g}"
            raise InputError(what, param="options.remember")
        decoding, allowed = decoding_options(choice, manifest.decoding), vocabulary.mask(choice.classes)
        self.of_track = TrackOptions(
            decoding, allowed, choice.gap_reset, choice.scores_hz, live=True, remember=choice.remember
        )

    @property
    def gap_reset(self) -> float:
        return self.choice.gap_reset

    @property
    def on_overload(self) -> Literal["block", "drop_oldest", "fail"]:
        return self.choice.on_overload

    @property
    def partials(self) -> bool:
        """The client hears of segments before they are final."""
        return self.choice.partials != "none"

    def changed(self, changes: Any) -> SessionOptions:
        """Raises InputError, UnsupportedOption, MalformedMessage."""
        return SessionOptions(changed_options(self.choice, changes), self._vocabulary)

    def effective(self) -> dict[str, Any]:
        """Every option as it holds; and `thresholds`, where classes have their own."""
        decoding = self.of_track.decoding.model_dump(exclude={"updates"})
        if not decoding["thresholds"]:
            del decoding["thresholds"]
        chosen = {name: to_builtins(getattr(self.choice, name)) for name in _CHOSEN}
        return decoding | chosen | {"look_ahead": round(self._look_ahead, 6)}
