"""Commands that are for keys, given the name of a queue or a stream: they refuse it, and say what it is."""

from typing import Any

import pytest

from flo.store.kv import KEY_OVERHEAD_BYTES
from tests.support.processes import FloProcess, ReplyError

WRITE_AGAIN = "write what is in it under the new name"
NO_SUCH_KEY = ReplyError("ERR no such key")
# command, what to do instead, its replies where nothing has the name and where a key has it
FOR_KEYS: tuple[tuple[str, str, Any, Any], ...] = (
    ("RENAME {} new", WRITE_AGAIN, NO_SUCH_KEY, b"OK"),
    ("RENAMENX {} new", WRITE_AGAIN, NO_SUCH_KEY, 1),
    ("RENAMENX {0} {0}", WRITE_AGAIN, NO_SUCH_KEY, 0),
    ("COPY {} new", WRITE_AGAIN, 0, 1),
    ("COPY {} new REPLACE", WRITE_AGAIN, 0, 1),
    ("MEMORY USAGE {}", "INFO memory tells how much all of them take", None, KEY_OVERHEAD_BYTES + len("both") + len("v")),
)


@pytest.mark.parametrize(("command", "instead", "of_none", "of_a_key"), FOR_KEYS)
def test_a_command_for_keys_refuses_queues_and_streams(
    shared_flo: FloProcess, command: str, instead: str, of_none: Any, of_a_key: Any
) -> None:
    with shared_flo.connect(5) as client:
        assert client.command("FLUSHALL") == b"OK"
        assert client.command(*command.format("both").split()) == of_none
        client.command("LPUSH", "jobs", "m")
        client.command("XADD", "both", "*", "f", "v")
        for name, noun in (("jobs", "queue"), ("both", "stream")):
            sentence = f"ERR {command.partition(' {')[0]} is for keys, and '{name}' is a {noun}: {instead}"
            assert client.command(*command.format(name).split()) == ReplyError(sentence)
        assert [client.command("LLEN", "jobs"), client.command("XLEN", "both"), client.command("EXISTS", "new")] == [1, 1, 0]
        client.command("SET", "both", "v")
        assert client.command(*command.format("both").split()) == of_a_key
        assert client.command("XLEN", "both") == 1
