"""flo.js, the JavaScript client, in a browser."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start


def test_every_operation_of_the_javascript_client(play: Callable[..., Any], flo: FloProcess) -> None:
    play("client", flo)
