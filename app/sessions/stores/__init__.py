"""The configured stores, by name. `create_app` builds them; the ledger's rows say which one to ask."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from app.sessions.store import DataKey, SessionStore, StoreUnavailable


class StoreNotConfigured(KeyError):
    """A row, or a setting, names a store that this process does not have."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name)
        self.name = name
        self.names = tuple(names)

    def __str__(self) -> str:
        return f"no session store is called {self.name!r}; configured: {', '.join(self.names)}"


class Stores(Mapping[str, SessionStore]):
    """The stores of this process, in the order in which pages show them."""

    def __init__(self, stores: Mapping[str, SessionStore]) -> None:
        self._stores = dict(stores)

    def __getitem__(self, name: str) -> SessionStore:
        try:
            return self._stores[name]
        except KeyError:
            raise StoreNotConfigured(name, self.names) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._stores)

    def present(
        self, wanted: Mapping[str, Sequence[DataKey]]
    ) -> tuple[dict[str, dict[DataKey, timedelta]], set[str]]:
        """Return what each store has of the wanted keys, with the time left, and the stores that are silent.

        A store that does not answer, or is not configured, is silent: nothing is known of its keys.
        """
        found: dict[str, dict[DataKey, timedelta]] = {}
        silent: set[str] = set()
        for name, keys in wanted.items():
            store = self._stores.get(name)
            try:
                if store is None:
                    silent.add(name)
                else:
                    found[name] = store.present(keys)
            except StoreUnavailable:
                silent.add(name)
        return found, silent

    def close(self) -> None:
        """Close every store's connections."""
        for store in self._stores.values():
            with suppress(StoreUnavailable):
                store.close()
