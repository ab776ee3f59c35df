"""The lazy mapping behind `flask.session`: every method loads before it answers.

`interface` says what loading means. The mapping stays a `ServerSideSession`, so that code written for
Flask-Session recognises it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Self

from flask_session.base import ServerSideSession

CSRF_KEY = "csrf_token"
_VISITOR_CSRF = "visitor"
_FLASK_LOGIN_KEYS = frozenset({"_user_id", "_fresh", "_id", "_remember", "_remember_seconds"})


class LazyMapping(ServerSideSession):  # type: ignore[misc]
    """A mapping that fetches its content at the first look. C encoders bypass it: serialise `dict(session)`."""

    modified = False
    accessed = False
    _loaded = False

    def __init__(self) -> None:
        """Begin without a look at anything."""

    def _fetch(self) -> dict[str, Any]:
        raise TypeError("a lazy mapping says how its content is fetched")

    def _is_visitor(self) -> bool:
        raise TypeError("a lazy mapping says whether it is a visitor's")

    def _load(self) -> None:
        self.accessed = True
        if not self._loaded:
            data = self._fetch()
            self._loaded = True
            dict.update(self, data)

    def _changed(self) -> None:
        self.modified = self.accessed = True

    on_update = staticmethod(_changed)

    def _is_visitor_csrf(self, key: object) -> bool:
        """A visitor's CSRF token is a constant that is never stored: forms need no session."""
        return key == CSRF_KEY and self._is_visitor() and not dict.__contains__(self, key)

    def __contains__(self, key: object) -> bool:
        self._load()
        return dict.__contains__(self, key) or self._is_visitor_csrf(key)

    def __getitem__(self, key: str) -> Any:
        self._load()
        return _VISITOR_CSRF if self._is_visitor_csrf(key) else dict.__getitem__(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        self._load()
        return _VISITOR_CSRF if self._is_visitor_csrf(key) else dict.get(self, key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        self._load()
        _refuse([key])
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._load()
        changes = dict(*args, **kwargs)
        _refuse(changes)
        super().update(changes)

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def clear(self) -> None:
        """Empty the data. Who is signed in is no data and stays; signing out is `sign_out()`."""
        self._load()
        permanent: Any = dict.get(self, "_permanent")
        dict.clear(self)
        if permanent is not None:
            dict.__setitem__(self, "_permanent", permanent)
        self._changed()


def _refuse(keys: Iterable[str]) -> None:
    taken = _FLASK_LOGIN_KEYS.intersection(keys)
    if taken:
        raise RuntimeError(
            f"session[{min(taken)!r}] belongs to Flask-Login's own session, which is not used here:"
            " sign people in with app.auth.sign_in.sign_in() and out with sign_out()"
        )


def _loading(name: str) -> Callable[..., Any]:
    def method(self: LazyMapping, *args: Any, **kwargs: Any) -> Any:
        self._load()
        return getattr(super(LazyMapping, self), name)(*args, **kwargs)

    method.__name__ = name
    return method


_METHODS = (
    "__delitem__ __iter__ __len__ __reversed__ __eq__ __ne__ __or__ __ror__ __repr__"
    " keys values items copy pop popitem"
)
for _name in _METHODS.split(" "):
    setattr(LazyMapping, _name, _loading(_name))
