"""The reactor, connections and the server, as flo/loop.py, conn.py, server.py and the modules that these start."""
