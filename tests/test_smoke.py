"""The first minute: start, a few commands, stop, start again, everything is there."""

from tests.processes import FloProcess


def test_what_was_set_is_there_after_a_restart(flo: FloProcess) -> None:
    with flo.connect() as client:
        assert client.command("SET", "hello", "world") == b"OK"
        assert client.command("INCR", "counter") == 1
    assert flo.stop() == 0
    flo.start()
    with flo.connect() as client:
        assert client.command("GET", "hello") == b"world"
        assert client.command("INCR", "counter") == 2
