"""How far a start has come in reading the log, as clients are told."""

from time import monotonic, time

import flo


class Progress:
    """How far a start has come."""

    def __init__(self) -> None:
        self.began = monotonic()
        self.began_at = int(time())
        self.done = 0  # bytes of the log
        self.total = 0

    @property
    def percent(self) -> float:
        """0 to 100."""
        return min(100.0 * self.done / self.total, 100.0) if self.total else 0.0

    @property
    def seconds_left(self) -> int:
        """What is left at the speed so far, at least 1."""
        if not self.done:
            return 1
        return max(1, round((monotonic() - self.began) * max(self.total - self.done, 0) / self.done))

    def sentence(self) -> str:
        """What a client is told."""
        return f"Flo is reading its log: {self.percent:.0f} % of {self.total} bytes; try again in about {self.seconds_left} s"

    def info(self) -> bytes:
        """INFO as far as there is something to tell."""
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
