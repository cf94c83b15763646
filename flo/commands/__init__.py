"""Requests to engine operations to replies: one table a protocol."""
