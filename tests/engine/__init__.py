"""The database without a network, as flo/engine."""
