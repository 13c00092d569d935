"""What `cortex top` asks of the gateway once an action was confirmed."""

from __future__ import annotations

import pytest

from cortex.operator.client import FleetApi
from cortex.top.app import perform
from cortex.top.state import Action
from tests.top.fake_gateway import fake_gateway


@pytest.mark.parametrize(
    ("kind", "target", "order"),
    [
        ("unload", "Qwen/Qwen3.6-27B-GGUF", ("POST", "/fleet/models/Qwen/Qwen3.6-27B-GGUF/unload")),
        ("load", "a b", ("POST", "/fleet/models/a%20b/load")),
        ("pin", "m", ("POST", "/fleet/models/m/pin")),
        ("unpin", "m", ("POST", "/fleet/models/m/unpin")),
        ("drain", "beast", ("POST", "/fleet/neurons/beast/drain")),
        ("resume", "beast", ("POST", "/fleet/neurons/beast/resume")),
        ("cancel", "chatcmpl-1", ("DELETE", "/fleet/requests/chatcmpl-1")),
    ],
)
def test_each_action_is_one_order(kind: str, target: str, order: tuple[str, str]) -> None:
    with fake_gateway() as gateway:
        perform(FleetApi(gateway.url), Action(kind, target, ""))  # type: ignore[arg-type]
        assert gateway.orders == [order]
