"""Runs the calls of workers and invokers over an engine in this process, without a server: each is encoded and split as a server would
get it, and its answer goes the same way back. It never waits: nobody else could bring what is waited for."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from flo.calls import Call
from flo.engine import Actions, Engine, Groups, Namespace
from flo.errors import BadRequest, NotFound, Refusal
from flo.operations import BY_CODE
from flo.operations.options import RUN_STATES
from flo.proto.binary import (
    OK,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    FrameReader,
    Request,
    Response,
    encode_refusal,
    split_request,
    split_response,
)
from flo.proto.shapes import shape

T = TypeVar("T")
COMPLETED = RUN_STATES.index("completed")  # this state and the ones behind it are final


class InProcess:
    """What `flo.Client` is to a server, for the operations on actions, workers, queues and groups in an engine's namespace `default`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def run(self, call: Call[T]) -> T:
        """The result of a call. Raises a `Refusal`, and `TimeoutError` for a run that has not ended."""
        frame, _ = FrameReader(REQUEST_BYTES).parse(call.encode(0, 0), 0)
        assert frame is not None
        request = split_request(frame, BY_CODE)
        row = request.operation
        method = BY_HAND.get(row.name) or (_by_row if row.method else None)
        if method is None:
            raise BadRequest(f"{row.name} is not done in process: it is no operation of a worker")
        try:
            result = self.engine.run(method, self.engine.namespace("default"), request)
        except Refusal as e:
            frame, _ = FrameReader(RESPONSE_BYTES).parse(encode_refusal(e, 0), 0)
            assert frame is not None
            return call.finish(split_response(frame))
        layout = shape(row.answer)
        values = {0: (), 1: (result,)}.get(len(layout.names), result)
        return call.finish(Response(OK, 0, layout.pack(*values) if layout.names else b""))

    def run_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        """As `flo.Client.run_many`."""
        results: list[Any] = []
        for call in many:
            try:
                results.append(self.run(call))
            except Refusal as e:
                results.append(e)
        return results


def _by_row(namespace: Namespace, request: Request) -> Any:
    """Call the method that the operation's row names."""
    row = request.operation
    parts: list[Any] = [request.key] if row.key else []
    if row.value:
        parts.append(shape(row.value).decode(request.value, row.items_max)[0] if row.layout else request.value)
    return attrgetter(row.method)(namespace)(*parts, **_named(request))


def _named(request: Request, *without: str) -> dict[str, Any]:
    """The options by their names in a program."""
    options = request.operation.options
    return {options[name].called: value for name, value in request.options.items() if name not in without}


def _groups(namespace: Namespace) -> Groups:
    return namespace.streams.groups


def _create_group(namespace: Namespace, request: Request) -> None:
    named = _named(request, "group", "start", "tail")
    start = None if "tail" in request.options else max(request.options.get("start", 0) - 1, 0)
    _groups(namespace).create(request.key, request.options["group"], start, make_stream=True, own=True, **named)


def _read_group(namespace: Namespace, request: Request) -> Any:
    group, consumer, limit = (request.options[name] for name in ("group", "consumer", "limit"))
    return _groups(namespace).read(request.key, group, consumer, limit, create=True)


def _group_info(namespace: Namespace, request: Request) -> dict[str, Any]:
    _, group = _groups(namespace).need(request.key, request.options["group"])
    return {"ack_timeout_ms": group.ack_timeout}


def _in_group(name: str) -> Callable[[Namespace, Request], Any]:
    """The handler of an operation on the deliveries of a group."""

    def handler(namespace: Namespace, request: Request) -> Any:
        idents = shape(request.operation.value).decode(request.value)[0]
        return getattr(_groups(namespace), name)(request.key, request.options["group"], idents, **_named(request, "group"))

    return handler


def _result(namespace: Namespace, request: Request) -> tuple[int, bytes]:
    actions: Actions = namespace.actions
    found = actions.result(request.key)
    if found[0] < COMPLETED and "block" in request.options:
        raise TimeoutError(f"the run {request.key.decode()} has not ended; run_until_idle() executes what is due, and nothing else does")
    return found


def _take(namespace: Namespace, request: Request) -> Any:
    found = namespace.actions.workers.take(request.key)
    if found is None:
        raise NotFound("there is no run for this worker")
    return found


def _described(namespace: Namespace, request: Request) -> dict[str, Any]:
    return {"actions": [namespace.actions.describe(request.key)]}


BY_HAND: dict[str, Callable[[Namespace, Request], Any]] = {
    "action_result": _result,
    "action_list": _described,
    "worker_await": _take,
    "queue_dequeue": lambda namespace, request: namespace.queues.dequeue(request.key, **_named(request)),
    "stream_group_create": _create_group,
    "stream_group_read": _read_group,
    "stream_group_info": _group_info,
    "stream_group_ack": _in_group("ack"),
    "stream_group_nack": _in_group("nack"),
    "stream_group_touch": _in_group("touch"),
}
