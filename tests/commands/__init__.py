"""Sessions and the table of commands, without a socket, as flo/commands."""
