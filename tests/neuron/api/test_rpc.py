"""Which addresses devices may be offered on."""

from __future__ import annotations

import pytest

from cortex.config.settings import ConfigError
from cortex.neuron.api.rpc import check_rpc_listen


@pytest.mark.parametrize("listen", ["0.0.0.0:50052", "8.8.8.8:50052", "gpu-host:50052"])
def test_devices_are_not_offered_to_the_world(listen: str) -> None:
    with pytest.raises(ConfigError, match="rpc_listen"):
        check_rpc_listen(listen)


def test_devices_may_be_offered_on_loopback_and_private_networks() -> None:
    check_rpc_listen("127.0.0.1:50052")
    check_rpc_listen("192.168.1.5:50052")
