"""The database without a network: log, stores and clock, with a method for each operation."""

from flo.engine.action import Actions
from flo.engine.engine import Engine, EngineSettings
from flo.engine.group import Groups
from flo.engine.kv import KeyValue
from flo.engine.namespace import Namespace
from flo.engine.part import Part
from flo.engine.queue import Queues
from flo.engine.stream import Bounds, Streams

__all__ = ["Actions", "Bounds", "Engine", "EngineSettings", "Groups", "KeyValue", "Namespace", "Part", "Queues", "Streams"]
