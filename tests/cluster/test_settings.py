"""What a member's settings must fit."""

import pytest

from flo.cluster.member import check
from flo.config import Settings
from flo.errors import ConfigError


def test_members_reach_each_other_without_tls() -> None:
    """A member that takes connections with TLS alone could not be copied, and nothing could be passed on to it."""
    settings = Settings(cluster_etcd=("http://127.0.0.1:2379",), advertise="127.0.0.1:9000", insecure=True)
    check(settings)
    settings.tls_only = True
    with pytest.raises(ConfigError, match=r"tls\.only"):
        check(settings)
