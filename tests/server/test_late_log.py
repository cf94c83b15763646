"""A log that says later what it has committed, as a replicated one does: no reply leaves before, reads included, and nothing spins."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.operations import BY_NAME
from flo.proto.binary import RESPONSE_BYTES, encode_request
from tests.support.processes import FloProcess, encode, wait_until

# Where `LOSE` is a file, the log's answers are lost; once it is gone, the batch that is out is sent again.
PROGRAM = """
import os, sys
import flo.engine.engine as engine
import flo.server as server
from tests.support.late import LateLog

class LateServer(server.Server):
    def begin(self, now):
        loses = os.path.exists(os.environ["LOSE"])
        if not loses and self.engine.log.answer_at is None:
            self.engine.log.ask_again()
        self.engine.log.hear(loses)
        super().begin(now)
    def commit(self):
        index = super().commit()
        if self.engine.log.out is not None:
            self.reactor.call_later(0.002, lambda: None)  # the answer comes, and makes a turn
        return index

engine.ReplicatedLog = LateLog
server.Engine = lambda *args, **kwargs: engine.Engine(*args, **(kwargs | {"replicated": True}))
server.Server = LateServer
sys.argv[0] = "flo"
from flo.cli import main
sys.exit(main())
"""


@pytest.fixture
def lose(tmp_path: Path) -> Path:
    return tmp_path / "lose"


@pytest.fixture
def flo(tmp_path: Path, lose: Path) -> Iterator[FloProcess]:
    with FloProcess(tmp_path / "data", program=["-c", PROGRAM], environment={"LOSE": str(lose)}) as made:
        yield made


def test_a_client_sees_what_it_would_see_of_any_log(flo: FloProcess) -> None:
    with flo.connect() as client, flo.connect() as other:
        assert client.command("SET", "k", "v") == b"OK"
        assert other.command("GET", "k") == b"v"
        answers = client.pipeline(*[("INCR", "n")] * 3000, *[("LPUSH", "q", "m")] * 10, *[("RPOP", "q")] * 11)
        assert answers == [*range(1, 3001), *range(1, 11), *[b"m"] * 10, None]
        assert client.command("SET", "large", "x" * 3_000_000) == b"OK"
        assert len(other.command("GET", "large")) == 3_000_000
        with flo.connect() as waiting:
            waiting.sock.sendall(encode("BRPOP", "q2", "0") + encode("GET", "k"))
            wait_until(lambda: b"blocked_clients:1" in client.command("INFO"), "the wait")
            assert client.command("LPUSH", "q2", "m") == 1
            assert waiting.reply() == [b"q2", b"m"] and waiting.reply() == b"v"
    flo.kill()
    flo.start()
    with flo.connect() as client:
        assert (client.command("GET", "n"), client.command("GET", "k")) == (b"3000", b"v")


@pytest.mark.slow
def test_nothing_leaves_for_a_batch_whose_answer_is_lost(flo: FloProcess, lose: Path) -> None:
    """Neither the writer's reply, nor a reader's who saw it, over either protocol; a later answer covers both."""
    with flo.connect() as writer, flo.connect() as reader, socket.create_connection(("127.0.0.1", flo.port)) as binary:
        assert writer.command("SET", "k", "old") == b"OK"
        assert writer.command("GET", "k") == b"old"  # quick, so that the writer is no longer served after others: SET loaded its modules
        lose.touch()
        writer.sock.sendall(encode("SET", "k", "new"))
        before = flo.cpu_seconds()
        with flo.connect() as probe:  # its own reply is held as well: so ask the kernel whether there is one
            probe.sock.sendall(encode("GET", "k"))
            reader.sock.sendall(encode("GET", "k"))
            binary.sendall(encode_request(BY_NAME["kv_get"], 1, 0, b"k"))
            for each in (writer.sock, reader.sock, probe.sock, binary):
                each.settimeout(0.4)
                with pytest.raises(TimeoutError):
                    each.recv(1)
                each.settimeout(20)
            assert flo.cpu_seconds() - before < 0.8, "nothing is polled for meanwhile"
            lose.unlink()
            with flo.connect() as another:
                assert another.command("SET", "other", "v") == b"OK"
            assert writer.reply() == b"OK" and reader.reply() == probe.reply() == b"new"
            assert binary.recv(1 << 16)[RESPONSE_BYTES + 8 :] == b"new"


def test_a_client_that_waits_for_the_log_and_leaves_is_forgotten(flo: FloProcess, lose: Path) -> None:
    lose.touch()
    with flo.connect() as client:
        client.sock.sendall(encode("SET", "k", "v"))
    lose.unlink()
    with flo.connect() as client:
        assert client.command("SET", "k2", "v") == b"OK"
        wait_until(lambda: b"connected_clients:1\r" in client.command("INFO"), "the other to be gone")


def test_a_client_whose_wait_ends_without_a_reply_is_read_on(flo: FloProcess) -> None:
    """It wants none."""
    with flo.connect() as client, flo.connect() as quiet:
        quiet.sock.sendall(encode("CLIENT", "REPLY", "OFF") + encode("BRPOP", "q", "0"))
        wait_until(lambda: b"blocked_clients:1" in client.command("INFO"), "the wait")
        assert client.command("LPUSH", "q", "m") == 1
        quiet.sock.settimeout(5)
        assert quiet.command("CLIENT", "REPLY", "ON") == b"OK"
