"""A saga: a trip is a flight, a hotel and a payment, each an action of its own; if one fails for good, the others are undone.

    flo worker run saga:steps &                # does the steps
    flo worker run saga:trips &                # leads the trips
    python3 saga.py trip-1 ada 300             # waits for the end: booked
    python3 saga.py trip-2 bob 3000            # the payment is refused: nothing is booked

The leader is an action too, so a trip that was accepted comes to an end whatever crashes. If the leader dies, its run starts again on
another worker and asks for the same steps, with the same idempotency keys: it gets the runs that are there, and goes on where it was.
Steps that undo are tried for ever, and undo also the step that failed, of which nobody knows how far it came. Each step names what it
does by the trip, so that doing it twice is doing it once. (Flo keeps an idempotency key for 24 hours: a trip takes no longer.)

Leader and steps are two workers: leaders wait, and if they filled all places of the only worker, no step would ever run.
"""

import os
import sys
from contextlib import suppress

import flo
from flo.errors import Conflict
from flo.worker import RunEnded

URL = os.environ.get("FLO_URL", "flo://127.0.0.1:9000")
steps = flo.Worker(URL, name="steps")
trips = flo.Worker(URL, name="trips")


@steps.action("book", max_attempts=5)
def book(what: str, trip: str, customer: str) -> None:
    """Book a flight or a hotel: a key of the trip's own, put once."""
    with suppress(Conflict):  # done by an earlier attempt, or undone
        steps.client.kv.put(f"{what}:{trip}", customer, if_absent=True)


@steps.action("pay", max_attempts=5)
def pay(trip: str, customer: str, amount: int) -> None:
    if amount > 1000:
        raise flo.NonRetryable(f"the bank refuses {amount} of {customer}")
    with suppress(Conflict):
        steps.client.kv.put(f"payment:{trip}", str(amount), if_absent=True)


@steps.action("undo", max_attempts=0)
def undo(what: str, trip: str) -> None:
    """Take a booking or a payment back. What it leaves keeps out a step that was thought dead and comes late."""
    steps.client.kv.put(f"{what}:{trip}", "undone", ttl=7 * 24 * 3600)


@trips.action("trip", max_attempts=0, timeout=5_000)
def trip(trip: str, customer: str, amount: int) -> str:
    begun: list[str] = []
    try:
        for what in ("flight", "hotel"):
            begun.append(what)
            book.options(idempotency_key=f"{what}:{trip}").invoke(what, trip, customer).result()
        begun.append("payment")
        pay.options(idempotency_key=trip).invoke(trip, customer, amount).result()
    except RunEnded as failure:  # for good: its attempts are spent, or another would not help
        for what in reversed(begun):
            undo.options(idempotency_key=f"{what}:{trip}").invoke(what, trip).result()
        return f"not booked: {failure}"
    return "booked"


if __name__ == "__main__":
    name, customer, amount = sys.argv[1:]
    steps.register()
    trips.register()
    print(trip.options(idempotency_key=name).invoke(name, customer, int(amount)).result())
