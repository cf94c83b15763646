"""What an import has copied, and what it has left and why. It is kept in Flo beside the place in Redis that it is about, as JSON."""

from typing import Any

EXAMPLES_MAX = 3
REASONS_MAX = 50  # different reasons that are told apart
OTHER_REASON = "other reasons"
KINDS = ("strings", "lists", "messages", "streams", "records", "groups", "pending", "documents", "bytes")


class Report:
    """Counts of what was copied (`done`, by the names in KINDS), and by reason what was left: a count and a few names."""

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        """`saved` is what `as_json` gave."""
        saved = saved or {"done": {}, "left": {}}
        self.done: dict[str, int] = dict.fromkeys(KINDS, 0) | saved["done"]
        self.left: dict[str, dict[str, Any]] = saved["left"]

    def add(self, **counts: int) -> None:
        """Count things that were copied."""
        for name, count in counts.items():
            self.done[name] += count

    def leave(self, key: bytes, kind: str, reason: str) -> None:
        """Count a thing that was left. `kind` is a word such as `hash`."""
        title = f"{kind}: {reason}"
        if title not in self.left and len(self.left) >= REASONS_MAX:
            title = f"{kind}: {OTHER_REASON}"
        entry = self.left.setdefault(title, {"count": 0, "examples": []})
        entry["count"] += 1
        shown = key.decode("utf-8", "backslashreplace")[:100]
        if len(entry["examples"]) < EXAMPLES_MAX and shown not in entry["examples"]:
            entry["examples"].append(shown)

    def as_json(self) -> dict[str, Any]:
        """A value for JSON."""
        return {"done": self.done, "left": self.left}
