"""Make session ids, handles, data keys and references. Only `interface` calls the first two."""

import hashlib
import secrets

from app.sessions.store import DataKey

_ID_BYTES = 32
_ID_LENGTH = 43
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"

REFERENCE_LENGTH = 10


def new_session_id() -> str:
    """Return 256 random bits as 43 URL-safe characters (ASVS 7.2.2 and 7.2.3)."""
    return secrets.token_urlsafe(_ID_BYTES)


def handle_for(session_id: str) -> bytes | None:
    """Return the SHA-256 of a session id, or None for a string that cannot be one."""
    if len(session_id) != _ID_LENGTH or not session_id.isascii():
        return None
    return hashlib.sha256(session_id.encode("ascii")).digest()


def new_data_key() -> DataKey:
    """Return the random name of a payload: 160 bits, of a length that no cookie is accepted at."""
    return DataKey(secrets.token_hex(20))


def new_reference() -> str:
    """Return a session's public name: 10 base32 characters, 50 random bits."""
    return "".join(secrets.choice(_BASE32) for _ in range(REFERENCE_LENGTH))
