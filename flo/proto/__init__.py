"""Protocols: from bytes to requests, and from replies to bytes. Nothing here uses a socket, a clock or a store."""
