# mypy: disable-error-code="empty-body"
"""The rows of the operations on the server, its namespaces and its cluster: each declaration is a row (flo.operations.row)."""

import builtins  # for the type list: a method has this name
from typing import Any, Final

from flo.given import Text
from flo.limits import LIST_ITEMS_MAX, NAMESPACE_NAME_BYTES_MAX
from flo.operations.method import Operations
from flo.operations.row import call, operation
from flo.proto.row import Command, Http

VIEWS = ("clients", "slow", "log", "settings")  # of server_view


class ServerOperations(Operations):
    """The operations on the server itself."""

    @operation("ping", 0x00, key="", value="anything", answer="value rest", summary="Echoes its value.", plain=True, reads=True)
    def ping(self, value: Text = b"") -> bytes:
        """The server's echo of `value`."""

    @operation(
        "auth",
        0x03,
        key="",
        value="the secret",
        summary="Authenticates the connection with the server's secret.",
        plain=True,
        reads=True,
        refusals="UNAUTHORIZED, after a second, if the secret is wrong",
    )
    def auth(self, secret: Text) -> None:
        """Send the secret. A wrong one is refused as `Unauthorized` after a second."""

    @operation(
        "server_stats",
        0x06,
        key="",
        answer="stats json",
        summary="Shows what the server has counted since its start, and its largest queues and streams. With `block`, the next such "
        "answer: one is made each second, for all who wait.",
        plain=True,
        waits=True,
        reads=True,
        http=Http("GET stats"),
    )
    def stats(self, *, block: int | None = None) -> dict[str, Any]:
        """The server's counts: docs/wire-protocol.md, "JSON answers". With `block` (ms, 0 for ever), waits for the next ones: they are
        made once a second."""

    @operation(
        "server_view",
        0x07,
        key="",
        value=f"one of {', '.join(VIEWS)}",
        answer="view json",
        summary="Lists the connected clients, the slow requests, the last lines of the log, or the settings. No secret is in it.",
        limits=(100, LIST_ITEMS_MAX),
        plain=True,
        reads=True,
        http=Http("GET views/{view}"),
    )
    def view(self, view: Text, *, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """One page of `view`: `clients`, `slow` (requests), `log` (its last lines) or `settings`, as an object with a list of that name and
        the `cursor` of the next page, which is empty at the end."""


class NamespaceOperations(Operations):
    """The operations on namespaces."""

    @operation(
        "namespace_create",
        0x70,
        repeats="same",
        key="its name",
        summary="Creates a namespace: binds its name to its hash. No error if it exists.",
        plain=True,
        refusals="CONFLICT if another name has the same hash",
        command=Command(
            "ns create",
            "create a namespace; no error if it exists",
            "done",
            "namespace {name} exists; use it with -n",
            {"name": f"1 to {NAMESPACE_NAME_BYTES_MAX} letters, digits, '.', '_', ':' and '-'"},
        ),
        http=Http("PUT namespaces/{key}"),
    )
    def create(self, name: Text) -> None:
        """Create a namespace; no error if it exists."""

    @operation(
        "namespace_list",
        0x71,
        answer="count u32, (namespace name)*",
        summary="Lists the names of all namespaces, in order.",
        plain=True,
        decode=lambda names: [name.decode() for name in names],
        reads=True,
        http=Http("GET namespaces", "namespaces"),
    )
    def list(self) -> builtins.list[str]:
        """Every namespace's name."""

    @operation(
        "namespace_delete",
        0x72,
        key="its name",
        summary="Deletes an empty namespace.",
        plain=True,
        refusals="CONFLICT if it holds anything live, or is `default`",
        command=Command("ns delete", "delete an empty namespace", "done", "namespace {name} is deleted"),
        http=Http("DELETE namespaces/{key}"),
    )
    def delete(self, name: Text) -> None:
        """Delete an empty namespace. Raises `Conflict` if anything is in it."""

    @operation(
        "namespace_info",
        0x73,
        key="its name",
        answer="info json",
        summary="Shows a namespace's counts and memory.",
        plain=True,
        reads=True,
        http=Http("GET namespaces/{key}"),
    )
    def info(self, name: Text) -> dict[str, Any]:
        """A namespace's contents and memory, as counts."""


class ClusterOperations(Operations):
    """The operations on the cluster."""

    @operation(
        "cluster_join",
        0xC0,
        repeats="same",
        key="",
        value="anything",
        summary="Does nothing on a member of a cluster: a server joins by its start with the settings of [cluster].",
        plain=True,
        refusals="BAD_REQUEST on a standalone server",
        http=Http("POST cluster/join"),
    )
    def join(self, value: Text = b"") -> None:
        """Does nothing on a member of a cluster, which joins by its start; refused by a standalone server."""

    @operation(
        "cluster_leave",
        0xC1,
        key="",
        value="anything",
        summary="Stops the member that is asked, for good: the lead goes to another, and the cluster forgets this one.",
        plain=True,
        refusals="BAD_REQUEST on a standalone server",
        http=Http("POST cluster/leave"),
    )
    def leave(self, value: Text = b"") -> None:
        """Stop the member that is asked, for good: it gives the lead to another if it has it, is forgotten, and ends. Started again, it is
        a member again."""

    @operation(
        "cluster_status",
        0xC2,
        answer="status json",
        summary="Shows the server's status.",
        plain=True,
        reads=True,
        http=Http("GET cluster"),
    )
    def status(self) -> dict[str, Any]:
        """The server's status: docs/wire-protocol.md, "JSON answers"."""

    @operation(
        "cluster_partition_table",
        0xC3,
        answer="table json",
        summary="One partition: who leads, and who has copies.",
        plain=True,
        reads=True,
        http=Http("GET cluster/partitions"),
    )
    def partition_table(self) -> dict[str, Any]:
        """One partition: its leader, the epoch, and the members that have copies."""

    @operation(
        "cluster_promote",
        0xC4,
        key="node",
        summary="Gives the lead to that member, within about 50 ms. The one that had it starts again, and follows.",
        plain=True,
        refusals="NOT_FOUND: no member has that name; NOT_LEADER; BAD_REQUEST on a standalone server",
        command=Command(
            "cluster promote",
            "give the lead to a member",
            "done",
            "the lead goes to {node}",
            {"node": "the member's name, as `flo cluster status` shows it"},
        ),
        http=Http("POST cluster/members/{key}/promote"),
    )
    def promote(self, node: Text) -> None:
        """Give the lead to the member `node`. The one that has it starts again as a follower, so connections to it are lost."""

    @operation(
        "cluster_remove",
        0xC5,
        key="node",
        summary="Forgets a member that does not come back: the log is no longer kept for it. A member that runs comes back by itself.",
        plain=True,
        refusals="NOT_FOUND: no member has that name; BAD_REQUEST: that member leads, or the server is standalone; NOT_LEADER",
        command=Command(
            "cluster remove",
            "forget a member that does not come back",
            "done",
            "{node} is forgotten",
            {"node": "the member's name, as `flo cluster status` shows it"},
        ),
        http=Http("DELETE cluster/members/{key}"),
    )
    def remove(self, node: Text) -> None:
        """Forget a member that does not come back: the log is no longer kept for it. One that runs comes back by itself within 2 s."""

    @operation(
        "cluster_fetch",
        0xC6,
        key="file of the log, or empty",
        layout="offset u64",
        answer="piece rest",
        summary="Shows a piece of a file of the log from an offset on, for a member that copies it; without a name, JSON with the files.",
        plain=True,
        refusals="NOT_FOUND: compaction has replaced the file",
        http=Http("POST cluster/fetch"),
    )
    def fetch(self, file: Text, offset: int) -> bytes:
        """A piece of a file of the log, from `offset` on; empty at its end. Without a name, JSON: `files` (their names and sizes) and
        `manifest` (base64)."""


ping: Final = call(ServerOperations.ping)
server_stats: Final = call(ServerOperations.stats)
server_view: Final = call(ServerOperations.view)
auth: Final = call(ServerOperations.auth)
namespace_create: Final = call(NamespaceOperations.create)
namespace_list: Final = call(NamespaceOperations.list)
namespace_delete: Final = call(NamespaceOperations.delete)
namespace_info: Final = call(NamespaceOperations.info)
status: Final = call(ClusterOperations.status)
partition_table: Final = call(ClusterOperations.partition_table)
