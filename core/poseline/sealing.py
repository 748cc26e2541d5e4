"""State that is written down to travel: a kind and version, a digest, and the content. What is damaged is told, not guessed.

A sealed state is not secret and not signed: it goes where only the server's own processes read and write.
"""

from __future__ import annotations

from hashlib import sha256

from poseline.errors import StateError

_DIGEST = 32


def seal(kind: str, content: bytes) -> bytes:
    """A line that names the format and its version (kind: `track 3`), 32 bytes of SHA-256 over the content, the content."""
    return _head(kind) + sha256(content).digest() + content


def unseal(kind: str, sealed: bytes) -> bytes:
    """Raises StateError for another kind or version, and for what is damaged."""
    head = _head(kind)
    if not sealed.startswith(head):
        raise StateError(f"this is no saved {kind.split()[0]}, or one of another version than {kind!r}")
    digest, content = sealed[len(head) : len(head) + _DIGEST], sealed[len(head) + _DIGEST :]
    if digest != sha256(content).digest():
        raise StateError(f"the saved {kind.split()[0]} is damaged: its digest is not that of its content")
    return content


def _head(kind: str) -> bytes:
    return f"poseline {kind}\n".encode()
