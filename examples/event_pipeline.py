"""A pipeline of events: orders in a stream, a consumer group that makes an invoice of each, a queue of letters behind it.

    python3 event_pipeline.py order 100        # appends 100 orders to the stream
    flo worker run event_pipeline:worker       # works; start several: each order goes to one of them
    python3 event_pipeline.py totals           # what each customer owes

Records come at least once: again after `ack_timeout` if a worker was killed with them. What a step does is named by the record's id, so
that doing it twice is doing it once: the invoice is a key that is put if it is absent, the letter a message with `dedup`. (Flo knows that
for five minutes: if no worker is left for longer, right behind a letter and before its record is acknowledged, that letter comes twice.)
Other groups, such as one for statistics, read the same stream at their own pace.
"""

import json
import os
import sys
from collections import Counter
from contextlib import suppress

import flo
from flo.calls import Message, StreamRecord
from flo.errors import Conflict

worker = flo.Worker(os.environ.get("FLO_URL", "flo://127.0.0.1:9000"), name="pipeline")


@worker.stream("orders", group="invoices", ack_timeout=2_000)
def invoice(record: StreamRecord) -> None:
    order = record.json()
    with suppress(Conflict):  # an earlier delivery of this record has made it
        worker.client.kv.put(f"invoice:{record.id}", json=order, if_absent=True)
    worker.client.queues.enqueue("letters", json=order | {"invoice": str(record.id)}, dedup=str(record.id))


@worker.queue("letters", lease=2_000)
def letter(message: Message) -> None:
    order = message.json()
    print(f"Dear {order['customer']}, you owe {order['amount']} for {order['invoice']}.", flush=True)


def order(count: int) -> None:
    for number in range(count):
        customer = ("Ada", "Bob", "Eve")[number % 3]
        worker.client.streams.append("orders", json={"customer": customer, "amount": number + 1})


def totals() -> Counter[str]:
    owed = Counter[str]()
    for _, value in worker.client.kv.scan("invoice:"):
        order = json.loads(value)
        owed[order["customer"]] += order["amount"]
    return owed


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["order", count]:
            order(int(count))
        case ["totals"]:
            for customer, amount in sorted(totals().items()):
                print(f"{customer:<10}{amount:>8}")
        case _:
            sys.exit(__doc__)
