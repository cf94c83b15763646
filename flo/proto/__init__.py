"""Protocols: bytes to requests and replies to bytes. No socket, no clock, no store in here."""
