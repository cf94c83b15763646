"""Requests as values: encode a request, decode its answer. This module uses no socket.

Each operation has a function here that takes the arguments of the client's method and makes a `Call`: `kv_put` for `client.kv.put`,
`queue_enqueue` for `client.queues.enqueue`, `group_read` for `client.streams.group_read`. They come from the rows of the operations
(flo.operations). `flo.Client` and `flo.aio.Client` run calls, one by one or many at once (`run_many`). Arguments are checked when the call
is made (flo.given): names and values are text or bytes, numbers are ints, and anything else is a `TypeError`.

    version, entry = client.run_many([kv_put("a", b"1"), kv_get("a")])
"""

from flo.operations.action import *  # noqa: F403
from flo.operations.call import Call as Call
from flo.operations.call import NotAnAnswer as NotAnAnswer
from flo.operations.ids import *  # noqa: F403
from flo.operations.kv import *  # noqa: F403
from flo.operations.queue import *  # noqa: F403
from flo.operations.schedule import *  # noqa: F403
from flo.operations.stream import *  # noqa: F403
from flo.operations.system import *  # noqa: F403
from flo.operations.timeseries import *  # noqa: F403
from flo.operations.worker import *  # noqa: F403
