"""The hot path: a buffer of pipelined requests, parsed and executed in one flat loop.

CPython spends 20-60 ns on an interpreted step and 50-70 on a call, and the budget is about a microsecond a request; so
here, and only here, parsing, dispatch, the store and the record are one piece of code. One `split` cuts the whole
buffer; each `$n` token is then compared with the ready-made token of the piece that follows. What does not fit
(another framing, a value with CR LF inside, a key with a deadline) is left to the plain way, which gives the same
answer: RequestParser, RespSession.execute and flo.engine.kv. tests/commands/test_flat.py holds the two equal, in replies, memory
and log.
"""

from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from flo.commands.context import NO_CONTEXT, context, has_room
from flo.commands.quick import QUICK
from flo.commands.runs import (
    ARGUMENT_BYTES_MAX,
    AT_ONCE,
    COUNTER_FLAG,
    COUNTS,
    CRLF,
    GET,
    INCR,
    LOOK_BYTES,
    LPUSH,
    MGET,
    NEXT,
    NO_FLAGS,
    NO_PREDECESSOR,
    OK,
    QACK,
    QDEQUEUE,
    QENQUEUE,
    RECORD_OVER_BYTES,
    RPOP,
    RUN_ANSWER_BYTES_MAX,
    RUN_BYTES_MIN,
    SET,
    SHORT_COUNTER_ENTRY_MAX,
    TOKENS,
    UNCOUNTED_BYTES,
    acknowledge_all,
    add_all,
    get_all,
    incr_all,
    lease_all,
    least_of,
    mget_all,
    pack_added,
    pack_size,
    pack_start,
    pack_version,
    pop_all,
    push_all,
    rows_of,
    run_of,
    set_all,
)
from flo.commands.table import SPELLINGS
from flo.engine.stream import FIELDS
from flo.errors import Fatal, LaneFailure
from flo.proto.resp import bulk
from flo.store.kv import COUNTER, I64_MAX, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.store.queue import FRESH_BYTES
from flo.store.stream import RECORD_BYTES as STREAM_RECORD_BYTES
from flo.store.stream import SEQ_MASK
from flo.ual.record import KV_COUNTER, KV_STRING, QUEUE_MESSAGE, STREAM_RECORD

if TYPE_CHECKING:
    from flo.commands.host import Host
    from flo.commands.session import RespSession

OUTPUT_ROOM_BYTES = 1 << 20  # SPEC section 3: past 1 MiB of unsent output no more requests are executed


VIEW_BYTES_MIN = 16 << 10  # larger values leave as a view of the entry: copying one costs as much as sending it
PUSHES = frozenset((b"LPUSH", b"lpush", b"QENQUEUE", b"qenqueue"))
COUNTING = frozenset((b"LPUSH", b"lpush"))  # of those, the ones that answer how many are ready, not the seq
SORT_MIN = 8  # connections: fewer are served in the order in which they were ready
Work = list[tuple["RespSession", bytes]]


def run(session: "RespSession", data: bytes, start: int) -> int:
    """Execute requests of `data` from offset `start` as far as the flat way goes; returns the offset reached, which is at a
    request's first byte. `session.halted` says whether execution has to stop there."""
    work: Work = [(session, data[start:] if start else data)]
    try:
        done, offset = run_many(work, 0, session.output_room)
    except LaneFailure as e:
        assert e.__cause__ is not None
        raise e.__cause__ from None
    return len(data) if done else len(data) - len(work[0][1]) + offset


def run_many(work: Work, position: int, room_of_each: int) -> tuple[int, int]:
    """Execute the requests of each (session, input) in `work` from `position` on, whose connections owe nothing yet and may each add
    `room_of_each` bytes of replies, as long as they are whole and the flat way goes. Returns (whose turn it was when it ended, the offset
    in that one's input as `work` has it then, which is at a request's first byte), or (the length of `work`, 0). Raises `LaneFailure`
    for a defect.

    Fifty clients that do not pipeline are fifty buffers of one request each: what a buffer costs is as much as what a request
    costs. So all that can be looked up once for all of them is, and they share this loop with those that do pipeline."""
    host = work[position][0].host
    if not has_room(host.engine):
        host.flat_context = NO_CONTEXT
    if not position and len(work) >= SORT_MIN:
        # what came at one time has no order, and like beside like is a run: one who asks for messages, the next who acknowledges some
        work.sort(key=_input_size)
    while position < len(work):
        data = work[position][1]
        size, last = len(data), position + least_of(data) - 1
        if size >= RUN_BYTES_MIN or (last < len(work) and size == len(work[last][1])):
            log = host.engine.log
            appended = len(log.pending)
            try:
                count, offset, end = run_same(work, position, room_of_each)
            except Exception as e:
                if len(log.pending) != appended:
                    raise LaneFailure(position) from e
                count = offset = 0  # nothing was done: one by one, to see whose it is
                end = position + 1
            position += count
            if offset:  # the run ends inside this one's input: what is behind it, one by one
                session, data = work[position]
                session.executed += 1  # an unfinished request behind it has its time from here on
                work[position], end = (session, data[offset:]), position + 1
            elif count:
                continue
        else:
            end = _next_run(work, position + 1)
        position, offset = _run_each(work, position, end, room_of_each, host)
        if offset >= 0:
            return position, offset
    return position, 0


def _next_run(work: Work, position: int) -> int:
    """From where on a run may begin: several of one size."""
    end = len(work)
    while position < end:
        size, last = len(work[position][1]), position + least_of(work[position][1]) - 1
        if size >= RUN_BYTES_MIN or (last < end and size == len(work[last][1])):
            break
        position += 1
    return position


def value_view(entry: bytes) -> Any:
    """What GET answers, uncopied; the view keeps the entry until it is sent."""
    return memoryview(entry)[:-8]


def _input_size(item: tuple["RespSession", bytes]) -> int:
    return len(item[1])


def run_same(work: Work, position: int, room_of_each: int) -> tuple[int, int, int]:
    """Execute the run that begins at `position` and goes over the connections whose input is of the same size and layout. Returns (how
    many were done, the offset reached in the input of the next, where those of the same size end)."""
    session, data = work[position]
    host, namespace, nil, auto_ack, size = session.host, session.namespace, session.nil, session.auto_ack, len(data)
    end = position + 1
    for other, more in islice(work, end, None):
        if len(more) != size or other.namespace is not namespace or other.nil is not nil or other.auto_ack is not auto_ack:
            break
        end += 1
    group = work[position:end]
    if size > LOOK_BYTES and data.count(NEXT, 0, LOOK_BYTES) < least_of(data) - 1:
        return 0, 0, end  # a large request: not even put beside those of others
    if len(group) > 1:
        layout, rows = run_of(b"".join([data for _, data in group]), host.layouts)
        if rows is not None and size % layout.stride:  # what is whole only when put together is not whole
            group, rows = group[:1], rows_of(layout, data)
    else:
        layout, rows = run_of(data, host.layouts)
    if rows is None:
        return 0, 0, end
    if host.flat_context[0] is not namespace.kv:
        host.flat_context = context(namespace)
    _, store, shards, _, _, log, _, now, number, adds, queues, streams, (takers, watches, readers), stamp, _ = host.flat_context
    answers: list[bytes] = []
    seqs: list[int] = []
    emit = answers.append
    index = first = log.next_index
    grown = misses = 0
    kind = layout.kind
    if kind == GET:
        misses = get_all(rows, shards, emit, nil)
        host.counters.hits += len(answers) - misses
        host.counters.misses += misses
    elif kind == MGET:
        misses = mget_all(rows, min(RUN_ANSWER_BYTES_MAX, room_of_each * len(group)), shards, emit, nil)
        host.counters.hits += len(answers) * len(rows[0]) - misses
        host.counters.misses += misses
    elif kind == QACK:
        acknowledge_all(namespace.queues, layout.fixed[1], rows, answers.extend)
        index = first = log.next_index
    elif kind == QDEQUEUE:
        seqs = lease_all(namespace.queues, layout.fixed[1], len(rows), min(RUN_ANSWER_BYTES_MAX, room_of_each * len(group)), answers.extend)
        index = first = log.next_index
    elif kind == RPOP:
        most = min(RUN_ANSWER_BYTES_MAX, room_of_each * len(group))
        seqs = pop_all(namespace.queues, layout.fixed[1], auto_ack, len(rows), most, answers.extend)
        index = first = log.next_index
    elif not adds:
        return 0, 0, end
    elif kind == SET:
        done, grown = set_all(host.flat_context, rows, len(rows[0][0]), layout.size)
        index += done
        answers = [OK] * done
    elif kind == INCR:
        values, grown = incr_all(host.flat_context, rows, layout.size)
        index += len(values)
        answers = [b":%d\r\n" % value for value in values]
    elif kind in (LPUSH, QENQUEUE):
        name = layout.fixed[1]
        if not takers and name in queues.queues:
            counting = kind == LPUSH
            index = push_all(rows, index, number, now, layout.size, queues, name, counting, log.pending.extend, answers.extend)
    elif not watches and not readers:
        stream = streams.streams.get(layout.fixed[1])
        field = layout.fixed[3]
        if stream is not None and stream.plain and stream.last >> 64 <= stamp and field != b"data":
            index = add_all(rows, index, number, now, stamp, field, layout.size, streams, stream, log.pending.extend, answers.extend)
    done, stride = len(answers), layout.stride
    if index != first:
        log.next_index = index
        log.pending_bytes += done * (stride + RECORD_OVER_BYTES)
        store.bytes += grown
    host.counters.commands += done
    if not done:
        return 0, 0, end
    each = len(rows) if len(group) == 1 else size // stride
    for at, (session, _) in enumerate(group if done == len(rows) else group[: -(-done // each)]):
        mine = at * each
        session.peer.out.append(answers[at] if each == 1 else b"".join(answers[mine : mine + each]))
        if seqs:
            session.last_receipts = [(seqs[min(mine + each, done) - 1], 1)]
    if len(group) == 1:
        return (1, 0, end) if done * stride == size else (0, done * stride, end)
    return done // each, done % each * stride, end


def _pieces_of(data: bytes) -> list[bytes]:
    """`data` cut at its line ends. Looking for them in a large value costs more than all else: where `data` is one request of three
    arguments, as a SET is, its last is taken by its length, whatever is in it."""
    pieces = data[:LOOK_BYTES].split(CRLF, 6)
    if len(pieces) == 7 and pieces[0] == b"*3":
        at = sum(map(len, pieces[:6])) + 12
        if pieces[5] == b"$%d" % (len(data) - at - 2) and data.endswith(CRLF):
            return [*pieces[:6], data[at:-2], b""]
    return data.split(CRLF)


def _run_each(work: Work, position: int, end: int, room_of_each: int, host: "Host") -> tuple[int, int]:
    """Execute each one's requests by themselves, up to the one at `end`. Returns (whose turn is next, -1), or as `run_many`, where the
    flat way ends."""
    kv: Any = None
    store: Any = None
    log: Any = None
    index = fed = grown = misses = gets = commands = 0
    tokens, counts, spellings, join = TOKENS, COUNTS, SPELLINGS, b"".join
    # the sizes of the last record of each kind, and how it began; the last queue and stream
    set_size = incr_size = push_size = add_size = set_length = incr_length = -1
    set_start = incr_start = push_start = add_start = b""
    queue_name = stream_name = None
    offset = -1
    for session, data in islice(work, position, end):
        if session.namespace.kv is not kv:
            if log is not None and index != log.next_index:
                log.pending_bytes += fed + RECORD_OVER_BYTES * (index - log.next_index)
                log.next_index = index
                store.bytes += grown
                fed = grown = 0
            kv = session.namespace.kv
            if host.flat_context[0] is not kv:
                host.flat_context = context(session.namespace)
            _, store, shards, buried, grow, log, push, now, namespace, adds, queues, streams, waiting, stamp, _ = host.flat_context
            takers, watches, readers = waiting
            index = log.next_index
            set_size = incr_size = -1
            queue_name = stream_name = None
        if session.halted:
            session.halted = session.yielded = False
        out = session.peer.out
        emit = out.append
        answered = len(out)
        room = room_of_each - sum(map(len, out)) if answered else room_of_each
        before, own = index, len(data)  # bytes that are not in pending_bytes yet, with `fed` of those before
        pieces = data.split(CRLF) if len(data) <= LOOK_BYTES else _pieces_of(data)
        last = len(pieces) - 1
        at = 0
        try:
            while at + 4 < last:
                name = pieces[at + 2]
                key = pieces[at + 4]
                head = pieces[at]
                if head == b"*2":
                    if pieces[at + 3] != tokens[len(key)] or pieces[at + 1] != tokens[len(name)]:
                        break
                    if name == b"GET" or name == b"get":
                        entry = shards[hash(key) & 255].get(key)
                        gets += 1
                        if entry is None:
                            misses += 1
                            emit(session.nil)
                            at += 5
                            continue
                        if entry[-1] < PLAIN_MAX:
                            emit(entry[:-8] if len(entry) < VIEW_BYTES_MIN else value_view(entry))
                            at += 5
                            if len(entry) > UNCOUNTED_BYTES:
                                room -= len(entry)
                                if room < 0:
                                    session.yield_turn()
                                    break
                            continue
                        gets -= 1  # the plain way counts it
                    elif name == b"RPOP" or name == b"rpop":
                        if index != log.next_index:
                            log.pending_bytes += fed + own + RECORD_OVER_BYTES * (index - log.next_index)
                            log.next_index = index
                            store.bytes += grown
                            fed = own = grown = 0
                        found = session.namespace.queues.pop(key, session.auto_ack)
                        index = log.next_index
                        queue_name = None
                        if found is not None:
                            session.last_receipts = [found[:2]]
                            emit(
                                CRLF.join((tokens[len(found[2])], found[2], b"")) if len(found[2]) <= ARGUMENT_BYTES_MAX else bulk(found[2])
                            )
                            at += 5
                            room -= len(found[2])
                            if room < 0 or monotonic() > host.tick_deadline:
                                session.yield_turn()
                                break
                            continue
                    elif (name == b"INCR" or name == b"incr") and adds:
                        shard = shards[hash(key) & 255]
                        entry = shard.get(key)
                        if entry is None and (not buried or key not in buried):
                            start = pack_start(29 + len(key), KV_COUNTER, 0, len(key), namespace, now)
                            push(join((start, NO_PREDECESSOR, key, b"1")))
                            shard[key] = entry = b"$1\r\n1\r\n" + pack_version(index | COUNTER_FLAG)
                            grow(key)
                            grown += KEY_OVERHEAD_BYTES + len(key) + len(entry)
                            index += 1
                            emit(b":1\r\n")
                            at += 5
                            continue
                        if entry is not None and entry[-1] == COUNTER:
                            digits = entry[4:-10] if len(entry) <= SHORT_COUNTER_ENTRY_MAX else entry[5:-10]
                            value = int(digits) + 1
                            if value <= I64_MAX:
                                digits = b"%d" % value
                                size = len(digits)
                                if size != incr_size or len(key) != incr_length:
                                    incr_size, incr_length = size, len(key)
                                    incr_start = pack_start(28 + incr_length + size, KV_COUNTER, 0, incr_length, namespace, now)
                                push(join((incr_start, entry[-8:-1], NO_FLAGS, key, digits)))
                                changed = CRLF.join((tokens[size], digits, pack_version(index | COUNTER_FLAG)))
                                shard[key] = changed
                                grown += len(changed) - len(entry)
                                index += 1
                                emit(b":" + digits + CRLF)
                                at += 5
                                continue
                elif head == b"*3" and (name == b"SET" or name == b"set") and pieces[at + 1] == b"$3" and adds:
                    if at + 6 >= last:
                        break
                    token = pieces[at + 5]
                    text = pieces[at + 6]
                    size = len(text)
                    length = len(key)
                    if pieces[at + 3] != tokens[length] or token != (tokens[size] if size <= 2048 else b"$%d" % size):
                        break  # ARGUMENT_BYTES_MAX, as below
                    if size != set_size or length != set_length:
                        set_size, set_length = size, length
                        set_start = pack_start(28 + length + size, KV_STRING, 0, length, namespace, now)
                    shard = shards[hash(key) & 255]
                    entry = shard.get(key)
                    if entry is None:
                        if not buried or key not in buried:
                            push(join((set_start, NO_PREDECESSOR, key, text)))
                            shard[key] = entry = CRLF.join((token, text, pack_version(index)))
                            grow(key)
                            grown += KEY_OVERHEAD_BYTES + length + len(entry)
                            index += 1
                            emit(OK)
                            at += 7
                            continue
                    elif entry[-1] < PLAIN_MAX:
                        push(join((set_start, entry[-8:] if not entry[-1] else entry[-8:-1] + NO_FLAGS, key, text)))
                        changed = CRLF.join((token, text, pack_version(index)))
                        shard[key] = changed
                        grown += len(changed) - len(entry)
                        index += 1
                        emit(OK)
                        at += 7
                        continue
                elif head == b"*3" and name in PUSHES and adds and not takers:
                    if at + 6 >= last:
                        break
                    text = pieces[at + 6]
                    size = len(text)
                    if (
                        pieces[at + 1] != tokens[len(name)]
                        or pieces[at + 3] != tokens[len(key)]
                        or pieces[at + 5] != (tokens[size] if size <= 2048 else b"$%d" % size)
                    ):
                        break
                    if key != queue_name:
                        queue = queues.queues.get(key)
                        if queue is not None:
                            queue_name, push_size = key, -1
                            ready, fresh = queues.lane_of_new(queue)
                    if key == queue_name:
                        if size != push_size:
                            push_size, length = size, len(queue.head) + 8
                            push_start = join(
                                (pack_start(37 + length + size, QUEUE_MESSAGE, 0, length, namespace, now), NO_PREDECESSOR, queue.head)
                            )
                        push(join((push_start, pack_version(index), AT_ONCE, text)))
                        fresh.append(index)
                        ready[0] += 1
                        queues.bytes += FRESH_BYTES
                        emit(b":%d\r\n" % (ready[0] + ready[3] if name in COUNTING else index))
                        index += 1
                        at += 7
                        continue
                elif (
                    head == b"*5"
                    and (name == b"XADD" or name == b"xadd")
                    and pieces[at + 6] == b"*"
                    and adds
                    and not watches
                    and not readers
                ):
                    if at + 10 >= last:
                        break
                    field = pieces[at + 8]
                    text = pieces[at + 10]
                    size = len(field)
                    if key != stream_name:
                        stream = streams.streams.get(key)
                        if stream is not None and stream.plain:
                            stream_name, add_size = key, -1
                    if (
                        key == stream_name
                        and stream.last >> 64 <= stamp
                        and field != b"data"
                        and pieces[at + 1] == b"$4"
                        and pieces[at + 3] == tokens[len(key)]
                        and pieces[at + 5] == b"$1"
                        and pieces[at + 7] == tokens[size]
                        and pieces[at + 9] == (tokens[len(text)] if len(text) <= 2048 else b"$%d" % len(text))
                    ):
                        seq = (stream.last & SEQ_MASK) + 1 if stream.last >> 64 == stamp else 0
                        added = stream.added + 1
                        if seq <= SEQ_MASK:
                            if size + len(text) != add_size:
                                add_size, length = size + len(text), len(stream.head) + 16
                                add_start = join(
                                    (
                                        pack_start(45 + length + add_size, STREAM_RECORD, 0, length, namespace, now),
                                        NO_PREDECESSOR,
                                        stream.head,
                                    )
                                )
                            push(join((add_start, pack_added(stamp, seq, FIELDS, added, 1, size), field, pack_size(len(text)), text)))
                            stream.append(index, stamp << 64 | seq, added, 8 + add_size)
                            streams.bytes += STREAM_RECORD_BYTES
                            index += 1
                            name = b"%d-%d" % (stamp, seq)
                            emit(CRLF.join((tokens[len(name)], name, b"")))
                            at += 11
                            continue
                # Any other command, or what is not plain: the plain way, still without its parser.
                count = counts[head]
                end = at + 2 * count + 1
                if end > last:
                    break
                args = pieces[at + 2 : end : 2]
                if [tokens[len(arg)] for arg in args] != pieces[at + 1 : end : 2]:
                    break
                queue_name = stream_name = None
                quick = QUICK.get(name) if count > 1 else None
                if quick is not None:
                    if index != log.next_index:
                        log.pending_bytes += fed + own + RECORD_OVER_BYTES * (index - log.next_index)
                        log.next_index = index
                        store.bytes += grown
                        fed = own = grown = 0
                    reply = quick(session, args)
                    index = log.next_index
                    if reply is not None:
                        emit(reply)
                        at = end
                        room -= len(reply)
                        if room < 0 or monotonic() > host.tick_deadline:
                            session.yield_turn()
                            break
                        continue
                command = spellings.get(args[0])
                if index != log.next_index:
                    log.pending_bytes += fed + own + RECORD_OVER_BYTES * (index - log.next_index)
                    log.next_index = index
                    store.bytes += grown
                    fed = own = grown = 0
                session.execute(args)
                index = log.next_index
                at = end
                if command is None or command.resets:
                    host.flat_context = NO_CONTEXT
                    break
                if session.halted:
                    break
                if len(out) and len(out[-1]) > UNCOUNTED_BYTES:
                    room -= len(out[-1])
                if room < 0 or monotonic() > host.tick_deadline:
                    session.yield_turn()
                    break
            else:
                if at == last and not pieces[last]:
                    commands += len(out) - answered
                    if index != before:
                        fed += own
                    position += 1
                    continue
        except (IndexError, KeyError) as e:
            # an argument over ARGUMENT_BYTES_MAX, or a count not in COUNTS: nothing of that request was done, unless it is a defect
            if log.next_index > index or log.written + len(log.pending) + 1 != index:
                raise Fatal("a request failed in the flat path after it had appended to the log") from e
        except Exception as e:
            raise LaneFailure(position) from e
        rest = pieces[at:]
        offset = len(data) - sum(map(len, rest)) - 2 * (len(rest) - 1)
        session.output_room = room
        session.executed += at > 0
        commands += len(out) - answered
        fed += own
        break
    if log is not None:
        if index != log.next_index:
            log.pending_bytes += fed + RECORD_OVER_BYTES * (index - log.next_index)
            log.next_index = index
            store.bytes += grown
        counters = host.counters
        counters.commands += commands
        if gets:
            counters.hits += gets - misses
            counters.misses += misses
    return position, offset


assert SHARD_MASK == 255 and ARGUMENT_BYTES_MAX == 2048  # written out above: a global name costs a lookup
