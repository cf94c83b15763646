"""Gives back the memory of dicts that have lost most of their entries.

A dict never gets smaller when it only loses entries. After growth or churn it has room for three to four times its entries: 27 to 110 bytes
for each entry. A dict with more than `SPARSE_BYTES` for each entry is made again.
"""

import sys
from typing import Any

SPARSE_BYTES = 200  # of a table for each entry
SMALL_BYTES = 1024  # a table up to this size stays as it is


def squeeze(table: dict[Any, Any]) -> None:
    """Make a sparse table small again. It stays the same object in the same order; no iteration over it may be under way."""
    if sys.getsizeof(table) > SMALL_BYTES + SPARSE_BYTES * len(table):
        items = list(table.items())
        table.clear()
        table.update(items)
