"""Requests to engine operations to replies: a room a protocol, and the runner that executes for all of them."""
