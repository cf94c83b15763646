"""The log, as flo/ual; tests/faults makes it fail."""
