"""The floor: a minimal loop of Flo's design, to measure the most that CPython allows.

It only parses, uses a dictionary, writes a log, syncs and replies. It has no expiry, versions, namespaces, limits,
state machine, recovery or checksums of single records, and any unexpected input kills it. `compare.py` runs it
beside Flo and Redis: Flo's loss against the floor is the price of its features, its loss against Redis is the
price of the interpreter.

    python3 loadtest/floor.py PORT LOGFILE [--nosync]

Commands: SET key value, GET key, INCR key, MGET; LPUSH, RPOP (leases), QENQUEUE, QDEQUEUE, QACK of one message of one queue; XADD * of one
field to one stream; PING; and the first requests of redis-benchmark and compare.py (CONFIG GET, DBSIZE, FLUSHALL).
"""

import os
import select
import socket
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress

LOG_BYTES = 256 << 20  # zeroed ahead, as Flo's segments are; a longer log starts over at the beginning
RECV_BYTES = 64 << 10
TOKENS = tuple(b"$%d" % n for n in range(2048))
HEADS = tuple(b"$%d\r\n" % n for n in range(2048))
LARGE_BYTES = 32 << 10  # an incomplete request larger than this is gathered without parsing
CRLF, OK, NIL, PONG = b"\r\n", b"+OK\r\n", b"$-1\r\n", b"+PONG\r\n"
RECORD = struct.Struct("<IHHIQQ").pack  # length, type, key length, namespace, time, predecessor
BATCH = struct.Struct("<IIQII").pack  # magic, length, first index, count, crc


class Queue:
    """The messages of the only queue, whatever its name, and the ids of the only stream."""

    def __init__(self) -> None:
        self.seq = 0
        self.ready: deque[tuple[int, bytes]] = deque()
        self.leased: dict[int, bytes] = {}
        self.ids: list[tuple[int, int]] = []


QUEUE = Queue()


def execute_queue(name: bytes, pieces: list[bytes], at: int, log: Callable[[bytes], None], out: Callable[[bytes], None]) -> int:
    """Run one command on the queue or the stream; returns the index of the next command, -1 if this is another command."""
    queue = QUEUE
    key = pieces[at + 4]
    if name in (b"LPUSH", b"QENQUEUE"):
        value = pieces[at + 6]
        pieces[at + 7]
        queue.seq += 1
        log(RECORD(28 + len(key) + len(value), 48, len(key), 0, 0, queue.seq) + key + value)
        queue.ready.append((queue.seq, value))
        out(b":%d\r\n" % (len(queue.ready) if name == b"LPUSH" else queue.seq))
        return at + 7
    if name in (b"RPOP", b"QDEQUEUE"):
        pieces[at + 5]
        seq, value = queue.ready.popleft()
        queue.leased[seq] = value
        log(RECORD(28 + len(key), 49, len(key), 0, 0, seq) + key)
        lone = HEADS[len(value)] + value + CRLF
        out(lone if name == b"RPOP" else b"*1\r\n*3\r\n:%d\r\n%b:1\r\n" % (seq, lone))
        return at + 5
    if name == b"QACK":
        receipt = pieces[at + 6]
        pieces[at + 7]
        seq = int(receipt.partition(b"-")[0])
        del queue.leased[seq]
        log(RECORD(28 + len(key), 63, len(key), 0, 0, seq) + key)
        out(b":1\r\n")
        return at + 7
    if name == b"XADD":
        field, value = pieces[at + 8], pieces[at + 10]
        pieces[at + 11]
        queue.seq += 1
        log(RECORD(28 + len(key) + len(field) + len(value), 80, len(key), 0, 0, queue.seq) + key + field + value)
        queue.ids.append((queue.seq, len(value)))
        ident = b"1700000000000-%d" % queue.seq
        out(HEADS[len(ident)] + ident + CRLF)
        return at + 11
    return -1


def execute(data: bytes, db: dict[bytes, bytes], log: Callable[[bytes], None], out: Callable[[bytes], None]) -> bytes:
    """Run the complete requests in `data`; returns the incomplete rest."""
    pieces = data.split(CRLF)
    at, tokens = 0, TOKENS
    with suppress(IndexError):  # the pieces end inside a request
        while True:
            name = pieces[at + 2]
            key = pieces[at + 4]
            if name == b"SET":
                value = pieces[at + 6]
                pieces[at + 7]
                if len(value) >= len(tokens):
                    if pieces[at + 5] != b"$%d" % len(value):
                        raise ValueError(data[:100])
                elif pieces[at + 3] != tokens[len(key)] or pieces[at + 5] != tokens[len(value)]:
                    raise ValueError(data)
                log(RECORD(28 + len(key) + len(value), 16, len(key), 0, 0, 0) + key + value)
                db[key] = value
                out(OK)
                at += 7
            elif name == b"GET":
                pieces[at + 5]
                if pieces[at + 3] != tokens[len(key)]:
                    raise ValueError(data)
                found = db.get(key)
                if found is None:
                    out(NIL)
                elif len(found) < len(tokens):
                    out(HEADS[len(found)] + found + CRLF)
                else:
                    out(b"$%d\r\n%b\r\n" % (len(found), found))
                at += 5
            elif name == b"INCR":
                pieces[at + 5]
                value = b"%d" % (int(db.get(key, b"0")) + 1)
                log(RECORD(28 + len(key) + len(value), 17, len(key), 0, 0, 0) + key + value)
                db[key] = value
                out(b":%b\r\n" % value)
                at += 5
            elif name == b"MGET":
                count = int(pieces[at][1:])
                pieces[at + 2 * count + 1]
                keys = pieces[at + 4 : at + 2 * count + 1 : 2]
                if [tokens[len(key)] for key in keys] != pieces[at + 3 : at + 2 * count : 2]:
                    raise ValueError(data)
                values = map(db.get, keys)
                out(b"*%d\r\n" % len(keys) + b"".join([NIL if v is None else HEADS[len(v)] + v + CRLF for v in values]))
                at += 2 * count + 1
            elif name == b"CONFIG":
                pieces[at + 7]
                out(b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n")
                at += 7
            elif (end := execute_queue(name, pieces, at, log, out)) > 0:
                at = end
            elif pieces[at] == b"*1":
                out(PONG if name == b"PING" else b":%d\r\n" % len(db))
                if name == b"FLUSHALL":
                    db.clear()
                at += 3
            else:
                raise ValueError(name)
    if pieces[at:] and pieces[at] == b"*1" and len(pieces) - at > 3:
        out(PONG if pieces[at + 2] == b"PING" else b":%d\r\n" % len(db))
        at += 3
    return CRLF.join(pieces[at:])


def missing_of(left: bytes) -> int:
    """The number of bytes missing from the incomplete SET in `left`; 0 if unknown."""
    head = left[:100].split(CRLF, 6)
    if len(head) < 7 or head[2] != b"SET":
        return 0
    return left.index(head[5] + CRLF) + len(head[5]) + 4 + int(head[5][1:]) - len(left)


def serve(port: int, path: str, sync: bool) -> None:
    """Serve on 127.0.0.1:`port` until killed, appending to `path`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for start in range(0, LOG_BYTES if sync else 0, 1 << 20):
        os.pwrite(fd, bytes(1 << 20), start)
    os.fsync(fd)
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener.fileno(), select.EPOLLIN)
    socks: dict[int, socket.socket] = {}
    rest: dict[int, bytes] = {}
    large: dict[int, tuple[list[bytes], int]] = {}  # the pieces of a large request, and the number of missing bytes
    db: dict[bytes, bytes] = {}
    records: list[bytes] = []
    tail = crc = index = 0
    print("floor ready", flush=True)
    while True:
        replies: list[tuple[socket.socket, list[bytes]]] = []
        for ready, _ in poller.poll():
            if ready == listener.fileno():
                peer, _ = listener.accept()
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                socks[peer.fileno()] = peer
                poller.register(peer.fileno(), select.EPOLLIN)
                continue
            peer = socks[ready]
            data = peer.recv(RECV_BYTES)
            if not data:
                poller.unregister(ready)
                socks.pop(ready).close()
                rest.pop(ready, None)
                continue
            if ready in large:
                pieces, missing = large.pop(ready)
                pieces.append(data)
                if len(data) < missing:
                    large[ready] = pieces, missing - len(data)
                    continue
                data = b"".join(pieces)
            if ready in rest:
                data = rest.pop(ready) + data
            out: list[bytes] = []
            left = execute(data, db, records.append, out.append)
            if left:
                missing = missing_of(left)
                if missing > LARGE_BYTES:
                    large[ready] = [left], missing
                else:
                    rest[ready] = left
            if out:
                replies.append((peer, out))
        if records:
            body = b"".join(records)
            crc = zlib.crc32(body, crc)
            if tail + len(body) + 24 > LOG_BYTES:
                tail = 0
            tail += os.pwrite(fd, BATCH(0x4F4C46, len(body), index, len(records), crc) + body, tail)
            index += len(records)
            records.clear()
            if sync:
                os.fdatasync(fd)
        for peer, out in replies:
            data = b"".join(out)
            sent = peer.send(data)
            if sent != len(data):
                peer.setblocking(True)
                peer.sendall(data[sent:])
                peer.setblocking(False)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], "--nosync" not in sys.argv)
