"""flo.Worker: its handlers, its life, and its tests without a server."""
