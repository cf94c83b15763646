"""Where a log ends: what is behind the last batch that can be read, and whether that is damage. Changes nothing.

The rule (docs/log-format.md, "Recovery"). The log is damaged if something on disk contradicts that it ends there:

- a batch behind the end says, by its durable index, that more was on disk;
- the manifest says where the log ended when it was closed in order, and this end is before that;
- the open segment's file is not as long as its header says, or has the footer of a sealed segment: the manifest is older than the file.

Otherwise the log ends there, and unreadable bytes behind the end are a torn tail. Unless the log was closed in order, nothing on disk tells
whether a torn tail, or zeros in place of one, had been acknowledged in the last moment: a sentence for the operator says so.
"""

import time as clock
from typing import NamedTuple

from flo.errors import RESTORE, LogDamaged
from flo.ual.directory import ASK
from flo.ual.manifest import FORMAT_EXACT, Manifest
from flo.ual.segment import Segment, Tail


class Ending(NamedTuple):
    """The end of an undamaged log."""

    in_order: bool  # the log was closed there
    torn_end: int  # file offset behind the last non-zero byte; the batches' end if there is no torn tail
    sentence: str  # for the operator; "" for none


def look_at_end(segment: Segment, tail: Tail, found: Manifest) -> Ending:
    """The end of a log, by its open `segment`, which was scanned up to `tail`. Raises `LogDamaged`."""
    size = segment.files.size(segment.fd)
    if segment.has_footer():
        raise LogDamaged(
            f"{segment.path} is sealed, though the manifest lists nothing behind it: the manifest is older than the files, as one from a "
            f"backup is, or what is behind it was lost. {ASK}"
        )
    claimed, torn_end = segment.find_beyond(tail.end)
    if claimed > tail.last:
        raise LogDamaged(
            f"{segment.path} is damaged at byte {tail.end}: index {tail.last + 1} does not read, and a batch behind it says everything up "
            f"to {claimed} was on disk. {RESTORE}"
        )
    stopped = found.stopped
    if stopped is not None and tail.last < stopped.last:
        raise LogDamaged(
            f"{segment.path} is damaged at byte {tail.end}: it reads up to index {tail.last}, and the log was closed with index "
            f"{stopped.last} at byte {stopped.size}. {RESTORE}"
        )
    if size != segment.capacity and found.format >= FORMAT_EXACT:
        raise LogDamaged(
            f"{segment.path} is {size} bytes long, and its header says {segment.capacity}: it was cut short or is not the file that it "
            f"was. {RESTORE}"
        )
    in_order = (
        stopped is not None and tail.end <= stopped.size
    )  # before it: only a batch without records is unreadable, and nothing is lost
    torn = torn_end - tail.end
    if in_order:
        return Ending(True, torn_end, f"cut {torn} bytes behind index {tail.last}, where the log was closed in order" if torn else "")
    if torn:
        return Ending(
            False,
            torn_end,
            f"cut {torn} bytes that do not read behind index {tail.last}, at byte {tail.end} of {segment.path}. The log was not closed in "
            "order, and nothing on disk tells whether they were acknowledged.",
        )
    if found.format < FORMAT_EXACT:
        return Ending(False, torn_end, "")  # an earlier Flo did not note how it stopped
    written = ", written at " + clock.strftime("%Y-%m-%d %H:%M:%S", clock.gmtime(tail.time / 1000)) + " UTC" if tail.time else ""
    return Ending(
        False,
        torn_end,
        f"the log was not closed in order: it ends with index {tail.last}{written}. Nothing on disk tells whether more was acknowledged.",
    )
