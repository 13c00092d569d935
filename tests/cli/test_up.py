"""What `cortex up` refuses before it starts anything."""

from __future__ import annotations

import socket

from cortex.errors import ConfigError
from tests.cli.program import run


def test_up_refuses_a_port_in_use_before_it_starts_anything() -> None:
    """The process that listened there answered the health checks, and `cortex is up` was printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("up", "--listen", f"127.0.0.1:{port}")
    assert isinstance(refused.exception, ConfigError)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; is cortex running" in str(refused.exception)


def test_up_beyond_this_machine_without_keys_is_refused_at_once() -> None:
    refused = run("up", "--listen", "0.0.0.0:0")
    assert isinstance(refused.exception, ConfigError)
    assert "gateway.insecure = true" in str(refused.exception)
