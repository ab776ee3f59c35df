"""The configured stores, by name. `create_app` builds them; a ledger row says which one to ask."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from app.sessions.store import DataKey, SessionStore, StoreUnavailable
from app.sessions.stores.breaker import Breaker


class ServedStore(SessionStore, Protocol):
    """A store with the breaker before its server, which pages and metrics show."""

    breaker: Breaker

    def close(self) -> None:
        """Close its connections."""
        ...


class StoreNotConfigured(StoreUnavailable, KeyError):
    """A row names a store that this process does not have: its server is as good as silent."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name, f"no such store is configured; there are: {', '.join(names)}")


class Stores(Mapping[str, ServedStore]):
    """The stores of this process, in the order in which pages show them."""

    def __init__(self, stores: Mapping[str, ServedStore]) -> None:
        self._stores = dict(stores)

    def __getitem__(self, name: str) -> ServedStore:
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
        """Return the time left of what each store has of the wanted keys, and the silent stores.

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
            store.close()
