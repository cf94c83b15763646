"""`flo.aio.Client`: a client of the binary protocol for asyncio (flo.client.asynchronous)."""

from flo.client.asynchronous import ActionCalls as ActionCalls
from flo.client.asynchronous import Client as Client
from flo.client.asynchronous import KeyCalls as KeyCalls
from flo.client.asynchronous import NamespaceCalls as NamespaceCalls
from flo.client.asynchronous import QueueCalls as QueueCalls
from flo.client.asynchronous import ScheduleCalls as ScheduleCalls
from flo.client.asynchronous import StreamCalls as StreamCalls
from flo.client.asynchronous import TimeSeriesCalls as TimeSeriesCalls
from flo.client.asynchronous import WorkerCalls as WorkerCalls
