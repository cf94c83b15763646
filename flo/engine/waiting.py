"""Those who wait for something to come: watchers, who are all told of a change, and takers, who are served in the order they came.

Both are called back once, or cancel first. A watcher is called behind the change, in the same turn or, where many wait, in the next ones;
a taker in the middle of it, by the part that has something for it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Watch:
    """Someone waiting until one of some names is as it wants it."""

    __slots__ = ("_fire", "_homes", "_is_met", "_watches")

    def __init__(
        self, watches: "Watches", names: Iterable[bytes], is_met: Callable[[bytes, Any], bool], fire: Callable[[], int | None]
    ) -> None:
        self._watches = watches
        self._is_met = is_met
        self._fire = fire
        self._homes: dict[bytes, dict[Watch, None]] = {}
        for name in names:
            self.wait(name)

    def wait(self, name: bytes) -> None:
        """Be among those who wait for a name."""
        home = self._homes[name] = self._watches.by_name.setdefault(name, {})
        home[self] = None

    def cancel(self) -> None:
        """Wait no more. Harmless where it is over already."""
        homes, self._homes = self._homes, {}
        by_name = self._watches.by_name
        for name, home in homes.items():
            home.pop(self, None)
            if not home and by_name.get(name) is home:
                del by_name[name]

    def look(self, name: bytes, state: Any) -> int:
        """A name that it waits for has changed, and it was taken out of those who wait: fire, or wait on. Returns what firing cost."""
        if self._is_met(name, state):
            return self.fire()
        self.wait(name)
        return 0

    def fire(self) -> int:
        """It is as it wants it, or will never be. Returns what that cost, in things looked at."""
        self.cancel()
        return self._fire() or 0


class Watches:
    """The watchers of one part, by the name they wait for."""

    def __init__(self) -> None:
        self.by_name: dict[bytes, dict[Watch, None]] = {}
        self._changed: list[tuple[bytes, dict[Watch, None]]] = []  # with those who were not told yet

    def __bool__(self) -> bool:
        return bool(self.by_name)

    def add(self, names: Iterable[bytes], is_met: Callable[[bytes, Any], bool], fire: Callable[[], int | None]) -> Watch:
        """Call `fire` once `is_met(name, its state)` holds after a change of one of the names. `fire` may say how many things it read."""
        return Watch(self, names, is_met, fire)

    def change(self, name: bytes) -> bool:
        """A name has changed; returns whether anybody waits for it, so that `notify` is to be called."""
        waiting = self.by_name.pop(name, None)
        if waiting:
            self._changed.append((name, waiting))
        return bool(waiting)

    def change_all(self) -> None:
        """Every name has changed."""
        self._changed += self.by_name.items()
        self.by_name.clear()

    def notify(self, most: int, state_of: Callable[[bytes], Any]) -> bool:
        """Have those look whose names have changed, until about `most` have looked or been served; returns whether there are more."""
        changed = self._changed
        while changed and most > 0:
            name, waiting = changed.pop()
            state = state_of(name)  # which may write a record: then `changed` grows
            while waiting and most > 0:
                most -= 1 + waiting.popitem()[0].look(name, state)
            if waiting:
                changed.append((name, waiting))
        return bool(changed)

    def end_all(self) -> None:
        """Nothing more comes: everybody is told now."""
        self.change_all()
        while self._changed:
            for watch in tuple(self._changed.pop()[1]):
                watch.fire()


class Taker(Generic[K]):
    """Someone waiting for things of one or several keys. Its part calls `deliver`, once, unless `cancel` came first."""

    __slots__ = ("_keys", "_takers", "acknowledge", "consumer", "count", "deliver", "lease")

    def __init__(
        self,
        takers: "Takers[K]",
        keys: Sequence[K],
        count: int,
        acknowledge: bool,
        deliver: Callable[..., None],
        lease: int | None = None,
        consumer: bytes = b"",
    ) -> None:
        """`count` at most; done at once where it does `acknowledge`; for `lease` ms, or the time that is usual there (None); `consumer` is
        who takes them."""
        self._takers = takers
        self._keys = keys
        self.count = count
        self.acknowledge = acknowledge
        self.deliver = deliver
        self.lease = lease
        self.consumer = consumer
        for key in keys:
            takers.enter(key, self)

    def cancel(self) -> None:
        """Wait no more. Harmless where it is over already."""
        for key in self._keys:
            self._takers.leave(key, self)


class Takers(Generic[K]):
    """The takers of one part, by what they wait for, in the order they came."""

    def __init__(self, whole_of: Callable[[K], Any] | None = None) -> None:
        """`whole_of(key)`, if given, is what the key is of: the keys of one can be asked for then."""
        self.by_key: dict[K, OrderedDict[Taker[K], None]] = {}
        self._whole_of = whole_of
        self._by_whole: dict[Any, dict[K, None]] = {}

    def __bool__(self) -> bool:
        return bool(self.by_key)

    def add(
        self,
        keys: Sequence[K],
        count: int,
        acknowledge: bool,
        deliver: Callable[..., None],
        lease: int | None = None,
        consumer: bytes = b"",
    ) -> Taker[K]:
        """Be served, behind those who wait already, as soon as one of the keys has something."""
        return Taker(self, list(dict.fromkeys(keys)), count, acknowledge, deliver, lease, consumer)

    def enter(self, key: K, taker: Taker[K]) -> None:
        """Be the last who waits for a key."""
        waiting = self.by_key.get(key)
        if waiting is None:
            waiting = self.by_key[key] = OrderedDict()
            if self._whole_of is not None:
                self._by_whole.setdefault(self._whole_of(key), {})[key] = None
        waiting[taker] = None

    def leave(self, key: K, taker: Taker[K]) -> None:
        """Wait for a key no more, if it does."""
        waiting = self.by_key.get(key)
        if waiting is None:
            return
        waiting.pop(taker, None)
        if waiting:
            return
        del self.by_key[key]
        if self._whole_of is not None:
            whole = self._whole_of(key)
            keys = self._by_whole[whole]
            del keys[key]
            if not keys:
                del self._by_whole[whole]

    def keys_of(self, whole: Any) -> list[K]:
        """The keys of something that somebody waits for."""
        return list(self._by_whole.get(whole, ()))

    def first(self, key: K) -> Taker[K] | None:
        """Who is served next."""
        waiting = self.by_key.get(key)
        return next(iter(waiting)) if waiting else None

    def count(self, key: K) -> int:
        """How many wait."""
        return len(self.by_key.get(key, ()))

    def end(self, key: K, answer: Callable[[K], tuple[Any, ...]]) -> None:
        """Nothing more comes for this key: deliver `answer(key)` to everybody who waits for it."""
        while (taker := self.first(key)) is not None:
            taker.cancel()
            taker.deliver(*answer(key))

    def end_all(self, answer: Callable[[K], tuple[Any, ...]]) -> None:
        """The same for every key."""
        for key in tuple(self.by_key):
            self.end(key, answer)
