"""Dicts that have lost most of what they held: their memory is given back.

A dict that only loses entries never gets smaller, and has room for three to four times its entries after it has grown or has been churned:
27 to 110 bytes for each. What has more than `SPARSE_BYTES` for each is made anew.
"""

import sys
from typing import Any

SPARSE_BYTES = 200  # of a table for each of its entries
SMALL_BYTES = 1024  # a table that is not larger is left as it is


def squeeze(table: dict[Any, Any]) -> None:
    """Make a table small again where it is sparse. It stays the same object, in the same order; nobody may be going over it."""
    if sys.getsizeof(table) > SMALL_BYTES + SPARSE_BYTES * len(table):
        items = list(table.items())
        table.clear()
        table.update(items)
