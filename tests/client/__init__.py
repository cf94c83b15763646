"""Clients: flo.Client, the engine in a program, and a client written from docs/wire-protocol.md alone."""
