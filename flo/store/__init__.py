"""The projections: what the log says, held in memory. They do no I/O: they are handed records."""
