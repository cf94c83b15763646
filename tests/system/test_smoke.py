"""The first minute: start, a few commands, stop, start again, everything is there."""

from pathlib import Path

from tests.support.processes import FloProcess, encode, wait_until


def test_what_was_set_is_there_after_a_restart(flo: FloProcess) -> None:
    with flo.connect() as client:
        assert client.command("SET", "hello", "world") == b"OK"
        assert client.command("INCR", "counter") == 1
    assert flo.stop() == 0
    flo.start()
    with flo.connect() as client:
        assert client.command("GET", "hello") == b"world"
        assert client.command("INCR", "counter") == 2


WITHOUT_EPOLL = "import select, sys; del select.epoll; from flo import cli, loop; sys.exit(cli.main(sys.argv[1:]))"


def test_a_system_without_epoll(tmp_path: Path) -> None:
    """`selectors` serves there: what waits, what is larger than the kernel's buffers on both ways, who goes away."""
    with FloProcess(tmp_path / "data", program=("-c", WITHOUT_EPOLL)) as flo:
        value = bytes(range(256)) * (8 << 12)
        with flo.connect() as client, flo.connect() as waiting, flo.connect() as gone:
            assert client.command("SET", "large", value) == b"OK"
            for _ in range(4):
                client.send(encode("GET", "large"))  # 32 MB that the kernel does not take at once
            waiting.send(encode("BRPOP", "q", "0"))
            gone.send(encode("BRPOP", "r", "0"))
            assert [client.reply() == value for _ in range(4)] == [True] * 4
            wait_until(lambda: b"blocked_clients:2" in client.command("INFO", "clients"), "the waits")
            gone.close()
            wait_until(lambda: b"blocked_clients:1" in client.command("INFO", "clients"), "the end of one")
            assert client.command("LPUSH", "q", "job") == 1
            assert waiting.reply() == [b"q", b"job"]
        assert flo.descriptors() < 100
        assert flo.stop() == 0
