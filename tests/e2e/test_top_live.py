"""`cortex top` in a terminal, on a real fleet: one neuron with two virtual devices, a model on each."""

from __future__ import annotations

from tests.e2e.clients import chat_body, open_stream
from tests.e2e.conftest import Launcher
from tests.top.terminal import needs_tmux, open_top

pytestmark = needs_tmux


def test_devices_models_and_a_running_request_are_seen_and_a_model_is_unloaded_by_key(launcher: Launcher) -> None:
    slow = {"models": ["talker"], "decode_delay_s": 0.05}
    gateway = launcher.gateway(launcher.neuron(neuron={"cpu_devices": 2, "cpu_memory": "2GiB"}, faults=slow))
    for model in ("talker", "smollm2"):
        answer = gateway.post("/v1/chat/completions", chat_body("hello", model=model, max_tokens=2))
        assert answer.status_code == 200, answer.text
    top = open_top(gateway.url, 160, 40)
    try:
        screen = top.wait_for(lambda screen: screen.count(" ready ") == 2)
        assert "cpu0" in screen
        assert "cpu1" in screen
        with open_stream(gateway, "forever") as stream:
            stream.first()
            top.wait_for(lambda screen: "decode" in screen and "talker @ n0" in screen)
        top.wait_for(lambda screen: "talker @ n0" not in screen)
        top.press("/", *"talker", "Enter", "Down", "Down", "Down", "Down")
        top.press("u")
        top.wait_for(lambda screen: "unload talker?" in screen)
        top.press("y")
        top.wait_for(lambda screen: "unload talker: done" in screen)
        top.press("Escape")
        top.wait_for(lambda screen: screen.count(" ready ") == 1)
    finally:
        top.close()
