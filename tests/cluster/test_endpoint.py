"""Addresses of etcd's members."""

import socket
from typing import Any

import pytest

from flo import endpoint
from flo.endpoint import AddressBook, Endpoint


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("http://10.0.0.1:2379", Endpoint("10.0.0.1", 2379, False)),
        ("https://etcd.example/", Endpoint("etcd.example", 2379, True)),
        ("http://[::1]:1", Endpoint("::1", 1, False)),
    ],
)
def test_an_address_is_read(url: str, parsed: Endpoint) -> None:
    assert Endpoint.parse(url) == parsed


@pytest.mark.parametrize(
    "url", ["", "10.0.0.1:2379", "ftp://a:1", "http://", "http://a:x", "http://a:99999", "http://a:1/path", "unix://a"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(url)


class Names:
    """A name server, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.takes = 0.0  # seconds of a look-up
        self.answer: list[str] | None = ["10.0.0.1"]
        self.asked = 0
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)
        monkeypatch.setattr(endpoint, "monotonic", lambda: self.now)

    def look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        self.now += self.takes
        if self.answer is None:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.answer]


def test_a_name_is_looked_up_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    names, book, member = Names(monkeypatch), AddressBook(), Endpoint("etcd.example", 1, False)
    names.answer = ["10.0.0.1", "10.0.0.2"]
    assert [book.find(member).address[0] for _ in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    names.now += 59
    book.find(member)
    assert names.asked == 1
    names.now += 2
    names.answer = ["10.0.0.3"]
    assert book.find(member).address == ("10.0.0.3", 1)
    names.answer, names.now = None, names.now + 61
    assert book.find(member).address == ("10.0.0.3", 1), "an address that was good is kept while names cannot be looked up"
    assert names.asked == 3


def test_look_ups_that_fail_take_little_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names, book, member = Names(monkeypatch), AddressBook(), Endpoint("etcd.example", 1, False)
    names.answer, names.takes = None, 5.0
    with pytest.raises(OSError, match="cannot be looked up: no such name"):
        book.find(member)
    names.now += 50
    with pytest.raises(OSError, match="no such name"):
        book.find(member)
    assert names.asked == 1
    names.answer, names.now = ["10.0.0.1"], names.now + 11
    assert book.find(member).address == ("10.0.0.1", 1)


def test_a_name_that_no_name_can_be_is_an_error_like_any_other() -> None:
    """etcd's members may tell any: the client goes to the next one."""
    with pytest.raises(OSError, match="looked up"):
        AddressBook().find(Endpoint("a..b", 2379, False))
