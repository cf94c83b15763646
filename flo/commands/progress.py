"""How much of the log a start has read, and the words in which clients are told."""

from time import monotonic, time

import flo


class Progress:
    """How much of the log a start has read."""

    def __init__(self) -> None:
        self.began: float = monotonic()
        self.began_at: int = int(time())
        self.done = 0  # bytes of the log that are read
        self.total = 0

    @property
    def percent(self) -> float:
        """The part of the log that is read, 0 to 100."""
        return min(100.0 * self.done / self.total, 100.0) if self.total else 0.0

    @property
    def seconds_left(self) -> int:
        """Seconds until the log is read, at the speed so far; at least 1."""
        if not self.done:
            return 1
        return max(1, round((monotonic() - self.began) * max(self.total - self.done, 0) / self.done))

    def sentence(self) -> str:
        """The sentence for a client whose request is refused."""
        return f"Flo is reading its log: {self.percent:.0f} % of {self.total} bytes; try again in about {self.seconds_left} s"

    def info(self) -> bytes:
        """The text of INFO: the fields that are known before the log is read."""
        return "\r\n".join(
            (
                "# Server",
                "redis_version:7.4.0",
                f"flo_version:{flo.__version__}",
                "redis_mode:standalone",
                "",
                "# Persistence",
                "loading:1",
                "async_loading:0",
                f"loading_start_time:{self.began_at}",
                f"loading_total_bytes:{self.total}",
                f"loading_loaded_bytes:{min(self.done, self.total)}",
                f"loading_loaded_perc:{self.percent:.2f}",
                f"loading_eta_seconds:{self.seconds_left}",
                "",
            )
        ).encode()
