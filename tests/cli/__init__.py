"""The command line, as flo/cli."""
