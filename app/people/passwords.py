"""Hash, verify and judge passwords. Argon2id by argon2-cffi, strength by zxcvbn."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from app.texts import gettext as _

SHORTEST = 12
LONGEST = 1024
_GOOD_ENOUGH = 3

# The OWASP cheat sheet's second choice: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class WeakPassword(ValueError):
    """A password that is refused; the message says what to do about it."""


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password."""
    return _hasher.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Say whether the password is the one. Without a hash it takes as long and is False (ASVS 6.3.8)."""
    try:
        _hasher.verify(password_hash or _dummy_hash(), password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def check_strength(password: str, name: str) -> None:
    """Raise WeakPassword for one that is short, long, common, or made of the person's name."""
    if len(password) < SHORTEST:
        raise WeakPassword(_("Use at least %(n)d characters.", n=SHORTEST))
    if len(password) > LONGEST:
        raise WeakPassword(_("Use at most %(n)d characters.", n=LONGEST))
    if name and name.casefold() in password.casefold():
        raise WeakPassword(_("Leave your user name out of the password."))
    if zxcvbn(password[:72], user_inputs=[name])["score"] < _GOOD_ENOUGH:
        raise WeakPassword(_("This password is easy to guess. Add a few uncommon words."))


@cache
def _dummy_hash() -> str:
    return _hasher.hash("nobody has this password")
