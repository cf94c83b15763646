"""The two ends of a queue, for programs that know it as a list: RPUSH, LPOP, BLPOP beside LPUSH, RPOP, BRPOP (SPEC section 4).

A queue hands out what came first. So a list that is filled from one end can only be taken from the other; anything else would need another
order, and is refused with a sentence. The end that a queue is filled from is the end of its first message, and is forgotten when no message
is ready, delayed or leased. A message's record tells its end: QUEUE_MESSAGE the left one, QUEUE_MESSAGE_RIGHT the right one.
"""

from collections.abc import Callable

from flo.errors import BadRequest
from flo.store.queue import Queue, QueueStore
from flo.ual.record import QUEUE_MESSAGE_RIGHT

NAMES = ("left", "right")
PUSHES = ("LPUSH", "RPUSH")
POPS = ("LPOP", "RPOP")


def is_right(queue: Queue, store: QueueStore, type_of: Callable[[int], int]) -> bool:
    """Whether the queue is filled from the right. `type_of(seq)` is the type of a message's record."""
    if queue.right is None:  # it is known to have such messages since the start; those that are left may be others
        seq = store.first(queue)[0]
        queue.right = bool(seq) and type_of(seq) == QUEUE_MESSAGE_RIGHT
    return queue.right


def check_push(queue: Queue, right: bool, filled_right: bool) -> None:
    """Have the queue filled from this end from now on. Raises `BadRequest` if it holds messages from the other."""
    if filled_right != right:
        if any(queue.counts):
            raise BadRequest(
                f"this list is filled from the {NAMES[filled_right]}, and hands out what came first: what {PUSHES[right]} adds would come "
                f"before it. Use {PUSHES[filled_right]}, or another list"
            )
        queue.right = right


def refuse_pop(queue: Queue, right: bool) -> BadRequest | None:
    """The refusal of taking from this end of a queue that is filled from it; None while it has no second message, for that is the same
    from both ends."""
    if queue.ready < 2:
        return None
    return BadRequest(
        f"this list is filled from the {NAMES[right]}, and hands out what came first: {POPS[right]} would hand out what came last. "
        f"Use {POPS[not right]}"
    )
