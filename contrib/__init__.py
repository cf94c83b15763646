"""Files for operators and packagers that are not part of the program."""
