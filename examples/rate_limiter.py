"""A rate limiter: at most LIMIT requests of one user in each minute, counted for all processes together.

    python3 rate_limiter.py ada        # run it a few times: "allowed", then "refused"

The window is fixed: it begins with each full minute by the clock of the process that asks. So the bounds are these. In one minute of
the clock at most LIMIT requests are allowed. In any 60 seconds it may be twice as many: LIMIT at the end of one minute, LIMIT at the
beginning of the next. Refused requests count too, which changes nothing within their minute. Processes should agree on the time, as by
NTP.

The counter is made with its time to live before it is counted up, in the same round trip. So a crash leaves no counter that stays for
ever; and as each minute has a counter of its own, nobody is locked out by an old one. If Flo is away, `allowed` raises
`flo.client.Disconnected`: the caller chooses whether a request is then let through.
"""

import os
import sys
import time

import flo
from flo.calls import kv_incr, kv_put
from flo.errors import Refusal

LIMIT = 5
SECONDS = 60


def allowed(client: flo.Client, user: str, now: float) -> bool:
    """Count a request of the user at the Unix time `now`; returns whether it is within the limit."""
    counter = f"limit:{user}:{int(now // SECONDS)}"
    # The first call is refused if the counter exists, which is right. It lives longer than its minute, for clocks that differ.
    _, count = client.run_many([kv_put(counter, "0", ttl=2 * SECONDS, if_absent=True), kv_incr(counter)])
    if isinstance(count, Refusal):  # such as OutOfMemory
        raise count
    return bool(count.value <= LIMIT)


if __name__ == "__main__":
    with flo.Client(os.environ.get("FLO_URL", "flo://127.0.0.1:9000")) as client:
        now = time.time()
        if allowed(client, sys.argv[1], now):
            print("allowed")
        else:
            sys.exit(f"refused: again in {SECONDS - now % SECONDS:.0f} s")
