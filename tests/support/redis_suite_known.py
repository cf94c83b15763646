"""The tests of Redis's own suite that Flo does not pass and Redis does: by unit, by reason."""

KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "unit/type/stream": {},
    "unit/type/stream-cgroups": {},
    "unit/type/string": {},
    "unit/type/incr": {},
    "unit/expire": {},
    "unit/scan": {},
    "unit/keyspace": {},
    "unit/protocol": {},
    "unit/introspection": {},
}
