"""The clients of the binary protocol: `flo.Client`, and `flo.aio.Client` for asyncio.

`exchange.py` is the protocol, once for both; `settings.py` has what a program can set and what an answer means to it, `retry.py` when a
request is sent again, `iterators.py` what takes several requests. `blocking.py` and `asynchronous.py` move the bytes.
"""

from flo.client.address import DEFAULT_PORT as DEFAULT_PORT
from flo.client.address import DEFAULT_URL as DEFAULT_URL
from flo.client.address import Address as Address
from flo.client.blocking import ActionCalls as ActionCalls
from flo.client.blocking import Client as Client
from flo.client.blocking import KeyCalls as KeyCalls
from flo.client.blocking import NamespaceCalls as NamespaceCalls
from flo.client.blocking import QueueCalls as QueueCalls
from flo.client.blocking import ScheduleCalls as ScheduleCalls
from flo.client.blocking import StreamCalls as StreamCalls
from flo.client.blocking import TimeSeriesCalls as TimeSeriesCalls
from flo.client.blocking import WorkerCalls as WorkerCalls
from flo.errors import CannotConnect as CannotConnect
from flo.errors import Disconnected as Disconnected
from flo.errors import TimedOut as TimedOut
