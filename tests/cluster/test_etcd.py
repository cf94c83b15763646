"""The client of etcd against real members."""

import gc
import os
import signal
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flo.cluster import grpc
from flo.cluster.etcd import (
    ANSWER_SECONDS,
    Answer,
    Etcd,
    EtcdRefused,
    Events,
    KeyValue,
    delete_op,
    end_of,
    last_op,
    put_op,
    range_op,
    unchanged,
)  # fmt: skip
from flo.endpoint import Endpoint
from tests.support.certificates import Authority
from tests.support.etcd import MISSING, EtcdCluster, is_installed
from tests.support.miniloop import MiniLoop

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_installed(), reason=MISSING)]


class User:
    """A client and its loop: calls that wait for their answers."""

    def __init__(self, endpoints: list[Endpoint], **more: Any) -> None:
        self.loop = MiniLoop()
        self.notes: list[str] = []
        self.etcd = Etcd(self.loop, endpoints, on_note=self.notes.append, **more)

    def wait(self, call: Callable[[Callable[[Any], None]], object], seconds: float = 30.0) -> Any:
        """The answer to a call."""
        answers: list[Any] = []
        call(answers.append)
        self.loop.run_until(lambda: answers, seconds)
        assert len(answers) == 1
        return answers[0]

    def txn(self, compares: list[bytes], success: list[bytes], failure: list[bytes] | None = None, seconds: float = 30.0) -> Any:
        return self.wait(lambda done: self.etcd.txn(compares, success, done, failure or []), seconds)

    def pass_time(self, seconds: float) -> None:
        """Turn for a time."""
        passed: list[bool] = []
        self.loop.call_later(seconds, lambda: passed.append(True))
        self.loop.run_until(lambda: passed)

    def put(self, key: bytes, value: bytes = b"v") -> int:
        """Write a key; returns the revision."""
        answer = self.txn([], [put_op(key, value)])
        assert isinstance(answer, Answer), answer
        return answer.revision

    def watch(self, prefix: bytes, revision: int) -> tuple[list[KeyValue], list[str]]:
        """(the changes that a watch tells from now on, "gap" for each gap)."""
        changes: list[KeyValue] = []
        gaps: list[str] = []

        def tell(events: Events) -> None:
            assert events.changes and events.revision == events.changes[-1].mod_revision
            changes.extend(events.changes)

        self.etcd.watch(prefix, revision, tell, lambda: gaps.append("gap"))
        return changes, gaps


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("one")) as cluster:
        yield cluster


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path, 3) as cluster:
        yield cluster


@pytest.fixture
def use() -> Iterator[Callable[..., User]]:
    users: list[User] = []

    def make(endpoints: list[Endpoint], **more: Any) -> User:
        users.append(User(endpoints, **more))
        return users[-1]

    yield make
    for user in users:
        user.etcd.close()
        assert user.loop.is_idle


@pytest.fixture
def user(one: EtcdCluster, use: Callable[..., User]) -> User:
    return use(one.endpoints)


# -- calls -----------------------------------------------------------------------------------------


def test_a_transaction_takes_one_branch_or_the_other(user: User) -> None:
    absent = [unchanged(b"branch", 0)]
    first = user.txn(absent, [put_op(b"branch", b"1")], [range_op(b"branch")])
    assert first.succeeded and first.found == [[]]
    second = user.txn(absent, [put_op(b"branch", b"2")], [range_op(b"branch"), put_op(b"branch/other", b"x")])
    assert not second.succeeded
    assert second.found == [[KeyValue(b"branch", b"1", first.revision)], []]
    third = user.txn([unchanged(b"branch", first.revision)], [delete_op(b"branch")])
    assert third.succeeded
    assert user.txn(absent, []).succeeded


def test_an_operation_sees_what_those_before_it_did(user: User) -> None:
    whole = (b"seen/", end_of(b"seen/"))
    answer = user.txn([], [range_op(*whole), put_op(b"seen/a", b"1"), put_op(b"seen/b", b""), range_op(*whole)])
    assert answer.found == [[], [], [], [KeyValue(b"seen/a", b"1", answer.revision), KeyValue(b"seen/b", b"", answer.revision)]]
    assert answer.more == [False] * 4


def test_ranges_have_a_limit_and_an_end(user: User) -> None:
    for number in range(5):
        user.put(b"range/%d" % number, b"%d" % number)
    whole = (b"range/", end_of(b"range/"))
    answer = user.txn([], [range_op(*whole, 2), range_op(*whole, 5), range_op(b"range/3", whole[1], 2), last_op(*whole)])
    assert [[pair.key[-1:] for pair in found] for found in answer.found] == [
        [b"0", b"1"],
        list(map(b"%d".__mod__, range(5))),
        [b"3", b"4"],
        [b"4"],
    ]
    assert answer.more == [True, False, False, True]


def test_a_request_that_is_too_large_is_refused(user: User) -> None:
    for size in (3 << 19, 4 << 20):  # etcd refuses the first, and gRPC the second
        answer = user.txn([], [put_op(b"large", b"x" * size)])
        assert isinstance(answer, EtcdRefused), answer
    assert user.txn([], [put_op(b"large", b"x" * (1 << 20))]).succeeded
    assert user.notes == []


def test_answers_come_to_calls_that_are_out_together(user: User) -> None:
    answers: list[Answer] = []
    for number in range(200):
        user.etcd.txn([unchanged(b"many/%d" % number, 0)], [put_op(b"many/%d" % number, b"x" * 5000)], answers.append)  # type: ignore[arg-type]
    user.loop.run_until(lambda: len(answers) == 200)
    assert all(answer.succeeded for answer in answers)
    assert len({answer.revision for answer in answers}) == 200


def test_a_cancelled_call_is_not_answered(user: User) -> None:
    answers: list[Any] = []
    user.put(b"before")
    user.etcd.txn([], [put_op(b"cancelled", b"x")], answers.append).cancel()
    user.put(b"behind")
    assert answers == [] and not user.etcd.calls


def test_status_tells_the_size_of_the_database(user: User) -> None:
    assert user.wait(user.etcd.status) > 10_000


# -- watches ---------------------------------------------------------------------------------------


def test_a_watch_tells_what_was_and_what_comes(user: User) -> None:
    first = user.put(b"watch/a", b"1")
    user.put(b"watched/not", b"1")
    answer = user.txn([], [put_op(b"watch/b", b"2"), delete_op(b"watch/a")])
    changes, gaps = user.watch(b"watch/", first)
    last = user.put(b"watch/c", b"3")
    user.loop.run_until(lambda: len(changes) == 4)
    assert changes == [
        KeyValue(b"watch/a", b"1", first),
        KeyValue(b"watch/b", b"2", answer.revision),
        KeyValue(b"watch/a", None, answer.revision),
        KeyValue(b"watch/c", b"3", last),
    ]
    assert gaps == []


def test_a_watch_gets_a_large_past_in_pieces(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd answers with 1,000 revisions at a time unless it may divide them: a gigabyte, if each were a part of a batch."""
    first = user.put(b"past/%04d" % 0, b"x" * (1 << 20))
    for number in range(1, 24):
        user.put(b"past/%04d" % number, b"x" * (1 << 20))
    user.txn([], [put_op(b"past/%04d" % (100 + number), b"y" * (100 << 10)) for number in range(10)])
    monkeypatch.setattr(grpc, "MESSAGE_BYTES_MAX", 4 << 20)
    changes, _ = user.watch(b"past/", first)
    user.loop.run_until(lambda: len(changes) == 34)
    assert [int(change.key[-4:]) for change in changes] == [*range(24), *range(100, 110)]
    assert user.notes == []


def test_what_was_compacted_is_a_gap(user: User) -> None:
    first = user.put(b"compact", b"1")
    last = user.put(b"compact", b"2")
    assert user.wait(lambda done: user.etcd.compact(last, done)) is None
    assert isinstance(user.wait(lambda done: user.etcd.compact(last, done)), EtcdRefused), "it was done already"
    changes, gaps = user.watch(b"compact", first)
    user.loop.run_until(lambda: gaps)
    assert changes == [] and not user.etcd.watches
    later, _ = user.watch(b"compact", last)
    user.loop.run_until(lambda: later)
    assert later == [KeyValue(b"compact", b"2", last)]


def test_a_cancelled_watch_tells_nothing(user: User) -> None:
    told: list[Events] = []
    watch = user.etcd.watch(b"quiet", user.put(b"quiet"), told.append, lambda: None)
    user.loop.run_until(lambda: told)
    watch.cancel()
    user.put(b"quiet")
    other, _ = user.watch(b"quiet", user.put(b"quiet"))
    user.loop.run_until(lambda: other)
    assert len(told) == 1


# -- faults ----------------------------------------------------------------------------------------


def guarded_puts(user: User, count: int, at: dict[int, Callable[[], object]]) -> list[float]:
    """Append numbers in order, each if the one before it is the last; returns the seconds that each took. `at` says what to do when."""
    seconds = []
    revision = user.put(b"guard", b"-")
    for number in range(count):
        at.get(number, lambda: None)()
        began = monotonic()
        answer = user.txn([unchanged(b"guard", revision)], [put_op(b"log/%06d" % number, b"x" * 1000)])
        assert answer.succeeded
        seconds.append(monotonic() - began)
    return seconds


def assert_once(user: User, changes: list[KeyValue], count: int) -> None:
    """Each put is there; a watch has told them in order, and a repetition only of the one that was under way."""
    answer = user.txn([], [range_op(b"log/", end_of(b"log/"))])
    assert [int(pair.key[4:]) for pair in answer.found[0]] == list(range(count))
    user.loop.run_until(lambda: changes and int(changes[-1].key[4:]) == count - 1)
    numbers = [int(change.key[4:]) for change in changes]
    assert numbers == sorted(numbers) and sorted(set(numbers)) == list(range(count))
    revisions = [change.mod_revision for change in changes]
    assert revisions == sorted(set(revisions)), "nothing is told twice"


def test_members_that_are_killed_lose_no_put(three: EtcdCluster, use: Callable[..., User]) -> None:
    user, watcher = use(three.endpoints), use(three.endpoints[1:])
    changes, gaps = watcher.watch(b"log/", 1)
    watcher.loop.run_until(lambda: watcher.etcd.channel is not None)
    dead: list[Any] = []

    def kill(member: Any) -> None:
        member.stop()
        dead.append(member)

    at: dict[int, Callable[[], object]] = {
        30: lambda: kill(three.member_at(user.etcd.member)),
        60: lambda: three.start(dead.pop()),
        80: lambda: kill(three.leader()),
        100: lambda: three.start(dead.pop()),
        120: lambda: kill(three.member_at(watcher.etcd.member)),
    }
    seconds = guarded_puts(user, 150, at)
    watcher.loop.run_until(lambda: len({change.key for change in changes}) == 150)
    assert gaps == []
    assert_once(watcher, changes, 150)
    assert max(seconds) < 10, seconds


def test_a_stopped_member_is_left(three: EtcdCluster, use: Callable[..., User]) -> None:
    """A ping finds it sooner than a late answer does: here after 1 s, and then a follower waits less than it takes to doubt its leader."""
    follower = next(member for member in three.members if member is not three.leader())
    user = use([Endpoint.parse(follower.url)])
    user.put(b"a")
    user.loop.run_until(lambda: len(user.etcd.endpoints) == 3)
    follower.pause()
    began = monotonic()
    user.put(b"b")
    took = monotonic() - began
    follower.resume()
    assert took < ANSWER_SECONDS - 0.3, took
    assert "has not answered for 1 s" in user.notes[0]


def test_a_member_that_accepts_and_says_nothing_is_left(three: EtcdCluster, use: Callable[..., User]) -> None:
    """With a user, also the question for the token must be answered in time."""
    follower = next(member for member in three.members if member is not three.leader())
    for words in (["user", "add", "root:p"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
        three.ctl(*words)
    follower.pause()
    user = use([Endpoint.parse(follower.url), *(each for each in three.endpoints if each.port != follower.port)], user="root", password="p")
    assert user.txn([], [put_op(b"a", b"b")], seconds=10).succeeded
    follower.resume()


def test_all_members_gone_and_back(tmp_path: Path, use: Callable[..., User]) -> None:
    with EtcdCluster(tmp_path, 1) as cluster:
        user = use(cluster.endpoints)
        revision = user.put(b"a")
        changes, _ = user.watch(b"a", revision)
        user.loop.run_until(lambda: changes)
        cluster.stop()
        answers: list[Any] = []
        user.etcd.txn([], [put_op(b"a", b"2")], answers.append)
        user.pass_time(3)
        refused = [note for note in user.notes if "refused" in note]
        assert answers == [] and len(refused) == 1, user.notes
        cluster.start()
        user.loop.run_until(lambda: answers and len(changes) >= 2)
        assert answers[0].succeeded and changes[-1].value == b"2"


def test_a_member_that_is_stopped_in_order_is_left_at_once(three: EtcdCluster, use: Callable[..., User]) -> None:
    follower = next(member for member in three.members if member is not three.leader())
    user = use([Endpoint.parse(follower.url), *(each for each in three.endpoints if each.port != follower.port)])
    user.watch(b"log/", user.put(b"a"))
    stop = threading.Thread(target=follower.stop, args=(signal.SIGTERM,))
    seconds = guarded_puts(user, 100, {20: stop.start})
    stop.join()
    assert max(seconds) < 1, seconds


def test_members_that_were_not_given_are_learned(three: EtcdCluster, use: Callable[..., User]) -> None:
    user = use(three.endpoints[:1])
    user.put(b"a")
    user.loop.run_until(lambda: sorted(user.etcd.endpoints) == sorted(three.endpoints))
    three.members[0].stop()
    user.put(b"b")


def test_names_are_looked_up_once_a_minute_and_all_their_addresses_tried(
    one: EtcdCluster, use: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    port = one.members[0].port

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    user = use([Endpoint("etcd.example", port, False)])
    user.put(b"a")
    for _ in range(2):
        user.etcd.lose("the test")
        user.put(b"a")
    assert asked.count("etcd.example") == 1


# -- users and TLS ---------------------------------------------------------------------------------


def test_a_user_whose_token_runs_out_gets_another(tmp_path: Path, use: Callable[..., User]) -> None:
    with EtcdCluster(tmp_path, 1, "--auth-token-ttl", "1") as cluster:
        for words in (["user", "add", "root:secret"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            cluster.ctl(*words)
        user = use(cluster.endpoints, user="root", password="secret")
        changes, _ = user.watch(b"a", user.put(b"a"))
        user.loop.run_until(lambda: changes)
        user.pass_time(3)  # etcd looks once a second which tokens are over
        user.put(b"a")
        user.loop.run_until(lambda: len(changes) == 2)
        assert any("token" in note for note in user.notes)
        wrong = use(cluster.endpoints, user="root", password="wrong")
        wrong.etcd.txn([], [], lambda _: None)
        wrong.loop.run_until(lambda: wrong.notes)
        assert "refused the user 'root'" in wrong.notes[0] and "secret" not in str(wrong.notes)
        nobody = use(cluster.endpoints)
        assert isinstance(nobody.txn([], [put_op(b"a", b"x")]), EtcdRefused)


def test_a_token_from_before_a_change_of_the_users_is_renewed(tmp_path: Path, use: Callable[..., User]) -> None:
    """etcd's tokens of the kind `jwt` say of which revision of the users they are."""
    private, public = tmp_path / "jwt.key", tmp_path / "jwt.pub"
    key = rsa.generate_private_key(65537, 2048)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    kind = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"
    with EtcdCluster(tmp_path / "etcd", 1, "--auth-token", kind) as cluster:
        for words in (["user", "add", "root:secret"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            cluster.ctl(*words)
        user = use(cluster.endpoints, user="root", password="secret")
        user.put(b"a")
        cluster.ctl("user", "add", "other:x", user="root:secret")
        user.put(b"a")
        assert user.notes == ["the token of etcd has run out"]


def test_tls_with_a_certificate_of_the_client(tmp_path: Path, use: Callable[..., User]) -> None:
    authority = Authority()
    with EtcdCluster(tmp_path, 1, tls=authority.issue(tmp_path)) as cluster:
        user = use(cluster.endpoints, tls=authority.client(authority.issue(tmp_path, file="client")))
        first = user.put(b"a", b"x" * (1 << 20))
        changes, _ = user.watch(b"a", first)
        user.loop.run_until(lambda: changes)
        assert changes[0].value == b"x" * (1 << 20)
        without = use(cluster.endpoints, tls=authority.client())
        without.etcd.txn([], [], lambda _: None)
        without.loop.run_until(lambda: without.notes)
        assert "certificate" in without.notes[0], without.notes
        stranger = use(cluster.endpoints, tls=ssl.create_default_context())
        stranger.etcd.txn([], [], lambda _: None)
        stranger.loop.run_until(lambda: stranger.notes)
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.notes[0], stranger.notes


# -- bounds ----------------------------------------------------------------------------------------


def test_a_slow_member_and_a_slow_reader(three: EtcdCluster, use: Callable[..., User]) -> None:
    """What etcd's windows do not take waits, also over a pause; what is not read stays with etcd."""
    user, slow = use(three.endpoints[:1]), use(three.endpoints[:1])
    changes, gaps = slow.watch(b"slow/", user.put(b"slow/first"))
    slow.loop.run_until(lambda: changes)
    answers: list[Any] = []
    three.members[0].pause()
    for number in range(8):
        user.etcd.txn([], [put_op(b"slow/%d" % number, b"z" * (1 << 20))], answers.append)
    user.pass_time(0.3)
    assert answers == []
    three.members[0].resume()
    user.loop.run_until(lambda: len(answers) == 8)
    slow.loop.run_until(lambda: len({change.key for change in changes}) == 9)
    assert gaps == []


def test_close_leaves_nothing(one: EtcdCluster) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    user = User(one.endpoints)
    user.put(b"a")
    told: list[Any] = []
    user.etcd.watch(b"a", 1, told.append, lambda: None)
    user.etcd.txn([], [put_op(b"a", b"2")], told.append)
    asking = User(one.endpoints, user="x", password="y")  # for a token
    asking.etcd.txn([], [], told.append)
    asking.pass_time(0.01)
    for each in (user, asking):
        each.etcd.close()
        each.etcd.close()
        assert each.loop.is_idle and not each.etcd.calls and not each.etcd.watches
        each.etcd.txn([], [], told.append)  # too late: nothing comes of it
        assert each.loop.is_idle
    assert told == []
    kept = weakref.ref(user.etcd)
    del user, asking, each
    gc.collect()
    assert kept() is None
    assert len(os.listdir("/proc/self/fd")) == before
