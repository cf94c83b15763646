"""`flo import`: copies the strings, lists and streams of a running Redis into a namespace of a Flo.

Both sides are asked over RESP (`wire.py`): Flo's binary protocol has no TTL in ms, and sets no ids of records and no deliveries. `kinds.py`
knows how each kind of value is copied, `run.py` walks through Redis and goes on after any interruption, `report.py` counts.
"""
