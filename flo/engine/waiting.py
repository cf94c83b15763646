"""Waiting requests: every watch of a name is told of a change; takers are served in the order in which they came.

Each is called back once, unless it is cancelled first. A watch is called after the change, in the same turn or, if many wait, in the next
turns. A taker is called during the change, by the part that has something for it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Watch:
    """A request that waits until the state of one of its names meets its condition."""

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
        """Wait for a change of a name."""
        waiting = self._homes[name] = self._watches.by_name.setdefault(name, {})
        waiting[self] = None

    def cancel(self) -> None:
        """Stop waiting. Does nothing if the watch has fired or was cancelled."""
        homes, self._homes = self._homes, {}
        by_name = self._watches.by_name
        for name, waiting in homes.items():
            waiting.pop(self, None)
            if not waiting and by_name.get(name) is waiting:
                del by_name[name]

    def look(self, name: bytes, state: Any) -> int:
        """Fire if the name, which has changed to `state`, meets the condition; else wait for it again, as the watch was taken out for this
        call. Returns how many records firing read."""
        if self._is_met(name, state):
            return self.fire()
        self.wait(name)
        return 0

    def fire(self) -> int:
        """Call back: the condition is met, or never will be. Returns how many records that read."""
        self.cancel()
        return self._fire() or 0


class Watches:
    """The watches of one part, by the names they wait for."""

    def __init__(self) -> None:
        self.by_name: dict[bytes, dict[Watch, None]] = {}
        self._changed: list[tuple[bytes, dict[Watch, None]]] = []  # changed names, each with the watches not told yet

    def __bool__(self) -> bool:
        return bool(self.by_name)

    def add(self, names: Iterable[bytes], is_met: Callable[[bytes, Any], bool], fire: Callable[[], int | None]) -> Watch:
        """Call `fire` once `is_met(name, state)` holds after a change of one of the names. `fire` may return how many records it read."""
        return Watch(self, names, is_met, fire)

    def change(self, name: bytes) -> bool:
        """Note that a name has changed; returns whether a watch waits for it, so that `notify` must be called."""
        waiting = self.by_name.pop(name, None)
        if waiting:
            self._changed.append((name, waiting))
        return bool(waiting)

    def change_all(self) -> None:
        """Note that every name has changed."""
        self._changed += self.by_name.items()
        self.by_name.clear()

    def notify(self, most: int, state_of: Callable[[bytes], Any]) -> bool:
        """Tell the watches of changed names, until about `most` watches were told or records read; returns whether there are more."""
        changed = self._changed
        while changed and most > 0:
            name, waiting = changed.pop()
            state = state_of(name)  # may write a record, and so add to `changed`
            while waiting and most > 0:
                most -= 1 + waiting.popitem()[0].look(name, state)
            if waiting:
                changed.append((name, waiting))
        return bool(changed)

    def end_all(self) -> None:
        """Fire every watch now: nothing more comes."""
        self.change_all()
        while self._changed:
            for watch in tuple(self._changed.pop()[1]):
                watch.fire()


class Taker(Generic[K]):
    """A request that waits to take items of one or several keys. Its part calls `deliver` once, unless `cancel` came first."""

    __slots__ = ("_keys", "_takers", "acknowledge", "consumer", "count", "deliver", "lease", "right")

    def __init__(
        self,
        takers: "Takers[K]",
        keys: Sequence[K],
        count: int,
        acknowledge: bool,
        deliver: Callable[..., None],
        lease: int | None = None,
        consumer: bytes = b"",
        right: bool | None = None,
    ) -> None:
        """Take at most `count` items for `lease` ms, or for the usual time if None. With `acknowledge` they are acknowledged at once.
        `consumer` is the name of the consumer that takes them. `right`: from the right end, or the left one; None: from either."""
        self._takers = takers
        self._keys = keys
        self.count: int = count
        self.acknowledge: bool = acknowledge
        self.deliver: Callable[..., None] = deliver
        self.lease: int | None = lease
        self.consumer: bytes = consumer
        self.right: bool | None = right
        for key in keys:
            takers.enter(key, self)

    def move(self, keys: Sequence[K]) -> None:
        """Wait for these keys from now on, behind the others that wait for those that are new to it."""
        for key in self._keys:
            if key not in keys:
                self._takers.leave(key, self)
        self._keys = keys
        for key in keys:
            self._takers.enter(key, self)

    def cancel(self) -> None:
        """Stop waiting. Does nothing if the taker was served or cancelled."""
        for key in self._keys:
            self._takers.leave(key, self)


class Takers(Generic[K]):
    """The takers of one part, by the keys they wait for, in the order in which they came."""

    def __init__(self, whole_of: Callable[[K], Any] | None = None) -> None:
        """`whole_of(key)`, if given, is the whole that the key is a part of, such as a group's stream; `keys_of` needs it."""
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
        right: bool | None = None,
    ) -> Taker[K]:
        """Make a taker, behind the waiting ones, which is served as soon as one of the keys has something."""
        return Taker(self, list(dict.fromkeys(keys)), count, acknowledge, deliver, lease, consumer, right)

    def enter(self, key: K, taker: Taker[K]) -> None:
        """Put `taker` behind the others that wait for `key`."""
        waiting = self.by_key.get(key)
        if waiting is None:
            waiting = self.by_key[key] = OrderedDict()
            if self._whole_of is not None:
                self._by_whole.setdefault(self._whole_of(key), {})[key] = None
        waiting[taker] = None

    def leave(self, key: K, taker: Taker[K]) -> None:
        """Take `taker` out of those that wait for `key`, if it is there."""
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
        """The keys of `whole` that a taker waits for."""
        return list(self._by_whole.get(whole, ()))

    def first(self, key: K) -> Taker[K] | None:
        """The taker that is served next for `key`; None if none waits."""
        waiting = self.by_key.get(key)
        return next(iter(waiting)) if waiting else None

    def count(self, key: K) -> int:
        """How many takers wait for `key`."""
        return len(self.by_key.get(key, ()))

    def end(self, key: K, answer: Callable[[K], tuple[Any, ...]]) -> None:
        """Deliver `answer(key)` to every taker that waits for `key`: nothing more comes for it."""
        while (taker := self.first(key)) is not None:
            taker.cancel()
            taker.deliver(*answer(key))

    def end_all(self, answer: Callable[[K], tuple[Any, ...]]) -> None:
        """Do the same for every key."""
        for key in tuple(self.by_key):
            self.end(key, answer)
