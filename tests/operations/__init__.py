"""The rows of the operations, as flo/operations."""
