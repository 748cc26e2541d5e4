"""Everything that can go wrong on purpose.

    PoselineError
    ├── InputError            the caller's data cannot be used
    │   ├── MalformedMessage      not the JSON, the type or the order that the protocol asks for
    │   │   └── UnknownMessage        a message type that this version does not know
    │   ├── UnsupportedOption     an option that the protocol knows and this server does not offer
    │   ├── BadNumber             NaN, infinity
    │   │   └── BadConfidence         a confidence outside 0..1
    │   ├── BadTimestamps         timestamps that do not rise
    │   ├── UnknownLayout         no such joint layout
    │   ├── LayoutMismatch        no conversion from this layout to the model's
    │   ├── ShapeMismatch         wrong number of joints or coordinates
    │   ├── UnitUnknown           a coordinate space that the model cannot take
    │   ├── TooShort              nothing to localize
    │   ├── TooLarge              over a stated limit
    │   ├── CorpusError           a corpus on disk that contradicts itself
    │   ├── MediaError            a video that cannot be used
    │   │   ├── UnsupportedMedia      not one of the containers, codecs or sources that are taken
    │   │   ├── NoVideo               a container without moving pictures
    │   │   ├── MediaTooLarge         more bytes or pixels than allowed
    │   │   ├── MediaTooLong          more seconds or frames than allowed
    │   │   └── MediaDamaged          cannot be decoded, or ends before it should
    │   ├── BadSignature          a webhook that was not signed by who should have, or too long ago
    │   └── StateError            a saved stream that is damaged, or of another model
    ├── UnknownModel
    ├── ModeUnavailable       the bundle has no network for the asked mode
    ├── MissingExtra          a library of an extra that is not installed; the message says how to install it
    ├── BundleError           a model folder that is damaged or incomplete
    ├── PoseModelError        the pose extractor's own model is missing, or not what it should be
    ├── ExtractionFailed      poses could not be taken from a video; the process that tried is gone
    │   ├── ExtractionTimeout     it took longer than allowed, or fell silent
    │   ├── ExtractionCancelled   somebody asked it to stop
    │   └── IsolationRefused      the system does not let the process be cut off from the network
    ├── Overloaded            refused at the door; come back after `retry_after` seconds
    │   └── Draining              the server is going away
    └── EngineFailure         the network could not be run; nobody's data is at fault

Each class has a stable `code` that goes on the wire; a message says what came, what was expected, and where.
"""

from __future__ import annotations

from typing import ClassVar


class PoselineError(Exception):
    """Base of every error that Poseline raises on purpose."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, param: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param


class InputError(PoselineError):
    code = "invalid_input"


class MalformedMessage(InputError):
    """The bytes are not the message they should be. `code` may be narrowed per instance."""

    code = "invalid_json"

    def __init__(self, detail: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(detail, param=param)
        if code is not None:
            self.code = code  # pyright: ignore[reportAttributeAccessIssue]


class UnknownMessage(MalformedMessage):
    code = "unknown_type"


class UnsupportedOption(InputError):
    code = "unsupported_option"


class BadNumber(InputError):
    code = "invalid_number"


class BadConfidence(BadNumber):
    code = "invalid_confidence"


class BadTimestamps(InputError):
    code = "bad_timestamps"


class UnknownLayout(InputError):
    code = "unknown_layout"


class LayoutMismatch(InputError):
    code = "layout_mismatch"


class ShapeMismatch(InputError):
    code = "shape_mismatch"


class UnitUnknown(InputError):
    code = "unit_unknown"


class TooShort(InputError):
    code = "too_short"


class TooLarge(InputError):
    """Over a limit; the code names which one (`too_large`, `too_many_frames`, `too_many_tracks`)."""

    code = "too_large"

    def __init__(self, detail: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(detail, param=param)
        if code is not None:
            self.code = code  # pyright: ignore[reportAttributeAccessIssue]


class CorpusError(InputError):
    code = "bad_corpus"


class MediaError(InputError):
    code = "bad_media"


class UnsupportedMedia(MediaError):
    code = "unsupported_media"


class NoVideo(MediaError):
    code = "no_video"


class MediaTooLarge(MediaError):
    code = "media_too_large"


class MediaTooLong(MediaError):
    code = "media_too_long"


class MediaDamaged(MediaError):
    code = "media_damaged"


class BadSignature(InputError):
    code = "bad_signature"


class StateError(InputError):
    code = "bad_state"


class UnknownModel(PoselineError):
    code = "unknown_model"


class ModeUnavailable(PoselineError):
    code = "mode_unavailable"


class MissingExtra(PoselineError):
    """`what` needs a library that comes with one of Poseline's extras."""

    code = "missing_extra"

    def __init__(self, what: str, library: str, extra: str) -> None:
        super().__init__(f"{what} needs {library}: pip install 'poseline[{extra}]' (in a checkout: make setup)")


class BundleError(PoselineError):
    code = "bad_bundle"


class PoseModelError(PoselineError):
    code = "bad_pose_model"


class ExtractionFailed(PoselineError):
    code = "extraction_failed"


class ExtractionTimeout(ExtractionFailed):
    code = "extraction_timeout"


class ExtractionCancelled(ExtractionFailed):
    code = "extraction_cancelled"


class IsolationRefused(ExtractionFailed):
    code = "isolation_refused"


class Overloaded(PoselineError):
    code = "overloaded"

    def __init__(self, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Draining(Overloaded):
    code = "draining"


class EngineFailure(PoselineError):
    code = "internal"


class TooManyClasses(PoselineError):
    """All places for enrolled classes are taken."""

    code = "too_many_classes"


class EnrolmentUnavailable(InputError):
    """The bundle has no bank, so nothing can be told from everything else."""

    code = "enrolment_unavailable"
