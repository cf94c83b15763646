"""ACTION: invoke actions, and look at their runs. Workers speak the binary protocol or HTTP."""

from base64 import b64decode
from binascii import Error as Base64Error

from flo.commands.actions import LIST_MARK, described_job, runs_job
from flo.commands.binary.names import json_payload, page
from flo.commands.resp.arguments import integer, word_pairs
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import Sub, command
from flo.commands.runner import WAITING, Job, Reply
from flo.engine import Actions
from flo.errors import BadRequest, NotFound
from flo.limits import DEADLINE_MAX, LIST_ITEMS_MAX
from flo.operations.options import RUN_STATES
from flo.proto.resp import ONE, ZERO, array, bulk

LIMIT_DEFAULT = 100
COMPLETED = RUN_STATES.index("completed")  # this state and the ones behind it are final
U32_MAX = (1 << 32) - 1
KEYS = {b"IDEMPOTENCY": "idempotency_key", b"UNIQUE": "unique_key", b"KEY": "concurrency_key"}
TEXTS = {**KEYS, b"LABELS": "labels", b"TRACEPARENT": "traceparent"}  # the words of options of INVOKE that are bytes


@command(
    "ACTION",
    -2,
    "",
    "Invoke actions, and look at their runs.",
    group="flo",
    since="flo 0.1",
    subcommands={
        "INVOKE": Sub(
            -4,
            "action input [PRIORITY n] [DELAY ms] [IDEMPOTENCY key] [UNIQUE key] [KEY key] [LABELS json] [TRACEPARENT text]",
            "Invoke an action; answers the id of its run.",
            "write denyoom",
        ),
        "STATUS": Sub(3, "run", "What is known of a run, in JSON; nil if there is no such run.", "readonly"),
        "RESULT": Sub(
            -3,
            "run [BLOCK ms]",
            "The state of a run and its output or error; nil if there is no such run. BLOCK waits until it has ended; 0 for ever.",
            "readonly blocking",
        ),
        "CANCEL": Sub(3, "run", "Cancel a run; 0 if there is no such run.", "write"),
        "RETRY": Sub(3, "run", "Make a run that has ended pending again; 0 if there is no such run.", "write denyoom"),
        "LIST": Sub(-2, "[LIMIT n] [CURSOR c]", "The next cursor, empty at the end, and actions by name, each in JSON.", "readonly"),
        "RUNS": Sub(
            -3,
            f"action [STATE {' | '.join(RUN_STATES)}] [LABELS json] [LIMIT n] [CURSOR c]",
            "The next cursor, empty at the end, and the runs of an action (empty: of all), the newest first, each in JSON.",
            "readonly",
        ),
    },
)
def action(session: RespSession, args: list[bytes]) -> Reply:
    word, actions = args[1].upper(), session.namespace.actions
    if word == b"INVOKE":
        return _invoke(actions, args)
    if word == b"LIST":
        return _list(session, word_pairs(args[2:], b"LIMIT", b"CURSOR"))
    if word == b"RUNS":
        return _runs(session, args[2], word_pairs(args[3:], b"STATE", b"LABELS", b"LIMIT", b"CURSOR"))
    try:
        if word == b"STATUS":
            return bulk(json_payload(actions.status(args[2])))
        if word == b"RESULT":
            return _result(session, args)
        if word == b"CANCEL":
            actions.cancel(args[2])
        else:
            actions.retry(args[2])
        return ONE
    except NotFound:
        return session.nil if word in (b"STATUS", b"RESULT") else ZERO


def _invoke(actions: Actions, args: list[bytes]) -> bytes:
    options = word_pairs(args[4:], b"PRIORITY", b"DELAY", *TEXTS)
    given = {TEXTS[word]: value for word, value in options.items() if word in TEXTS}
    priority = integer(options.get(b"PRIORITY", b"0"), 0, 255, "PRIORITY is 0 to 255, and lower goes first")
    delay = integer(options.get(b"DELAY", b"0"), 0, DEADLINE_MAX)
    try:
        return bulk(actions.invoke(args[2], args[3], priority=priority, delay=delay, **given))
    except NotFound as e:
        raise BadRequest(str(e)) from None  # nil would read as an id that is not known yet


def _result(session: RespSession, args: list[bytes]) -> Reply:
    actions, run = session.namespace.actions, args[2]
    options = word_pairs(args[3:], b"BLOCK")
    state, output = actions.result(run)
    if state >= COMPLETED or not options:
        return _shown(state, output)

    def answer() -> bytes:
        try:
            return _shown(*actions.result(run))
        except NotFound:
            return session.nil

    milliseconds = integer(options[b"BLOCK"], 0, U32_MAX)
    watch = actions.watch(run, lambda: wait.ready())
    wait = session.block(milliseconds / 1000, watch.cancel, answer, args)
    return WAITING


def _shown(state: int, output: bytes) -> bytes:
    return array([bulk(RUN_STATES[state].encode()), bulk(output)])


# -- lists -----------------------------------------------------------------------------------------


def _limit(options: dict[bytes, bytes]) -> int:
    return integer(options.get(b"LIMIT", b"%d" % LIMIT_DEFAULT), 1, LIST_ITEMS_MAX, f"LIMIT is 1 to {LIST_ITEMS_MAX}")


def _cursor(options: dict[bytes, bytes]) -> bytes:
    try:
        return b64decode(options.get(b"CURSOR", b""), validate=True)
    except (Base64Error, ValueError):
        raise BadRequest("the CURSOR is none; send the cursor of the answer before, unchanged") from None


def _list(session: RespSession, options: dict[bytes, bytes]) -> Job:
    actions = session.namespace.actions
    names, following = page("ACTION LIST", {"limit": _limit(options), "cursor": _cursor(options)}, actions.names(), LIST_MARK)
    return _page((yield from described_job(actions, names)), following)


def _runs(session: RespSession, name: bytes, options: dict[bytes, bytes]) -> Job:
    state = options.get(b"STATE", b"").decode("utf-8", "replace").lower()
    if state and state not in RUN_STATES:
        raise BadRequest(f"the STATE is {state[:40]!r}; it is one of {', '.join(RUN_STATES)}")
    number = RUN_STATES.index(state) if state else None
    labels = options.get(b"LABELS", b"")
    found = yield from runs_job(session.namespace, name, number, labels, _limit(options), _cursor(options))
    return _page(found["runs"], found["cursor"])


def _page(items: list[dict[str, object]], following: str) -> list[bytes]:
    return [array([bulk(following.encode()), array([bulk(json_payload(item)) for item in items])])]
