"""Clients that disconnect, workers that die, roles that are stopped."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.clients import chat_body, open_stream
from tests.e2e.conftest import Launcher
from tests.e2e.models import HELLO, TICKS
from tests.e2e.processes import PLAIN, Daemon, eventually

# Without prompt lookup, which would guess a ticking clock's next tokens many at a time.
EIGHT = '[[models]]\nid = "talker"\nfile = "talker.gguf"\nparallel = 8\ncontext = 2048\nprompt_lookup = false\n'
ROLES = ["gateway", "neuron"]


def slow(launcher: Launcher, role: str, delay_s: float = 0.02, **sections: object) -> tuple[Daemon, Daemon]:
    """(the client's server, its neuron), with a talker that takes as long per token as a real model."""
    neuron = launcher.neuron(profiles=EIGHT, faults={"models": ["talker"], "decode_delay_s": delay_s}, **sections)
    return (launcher.gateway(neuron, **sections) if role == "gateway" else neuron), neuron


def running(neuron: Daemon) -> int:
    return len(neuron.status().get("requests", []))


@pytest.mark.parametrize("role", ROLES)
def test_dropped_streams_free_their_sequences_and_the_others_finish(launcher: Launcher, role: str) -> None:
    server, neuron = slow(launcher, role)
    with ExitStack() as kept, ExitStack() as dropped:
        stay = [kept.enter_context(open_stream(server, "forever", max_tokens=200)) for _ in range(4)]
        leave = [dropped.enter_context(open_stream(server, "forever", max_tokens=2000)) for _ in range(4)]
        assert [stream.first() for stream in stay + leave] == ["tick "] * 8
        eventually(lambda: running(neuron) >= 4, what="requests shown")
        dropped.close()
        eventually(lambda: running(neuron) <= 4, within_s=30, what="four requests cancelled")
        assert [stream.rest() for stream in stay] == [(TICKS * 100).removeprefix("tick ")] * 4
    eventually(lambda: running(neuron) == 0, within_s=30)
    eventually(lambda: kv_used(neuron) == 0, what="cells freed")


def kv_used(neuron: Daemon) -> int:
    """KV cells of running sequences, without those kept for reuse."""
    return sum(model.get("kv_used", 0) for model in neuron.status()["models"])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_token_stops_the_decode(
    launcher: Launcher, role: str, stream: bool
) -> None:
    server, neuron = slow(launcher, role, delay_s=0.2)
    server.post("/v1/chat/completions", chat_body("hello", max_tokens=1)).raise_for_status()
    url = httpx.URL(server.url)
    body = httpx.Request("POST", url, json=chat_body("forever", stream=stream, max_tokens=1000)).read()
    headers = f"host: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(url.host), url.port or 80)) as client:
        client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{headers}".encode() + body)
        eventually(lambda: running(neuron) == 1, what="the request runs")
    eventually(lambda: running(neuron) == 0, what="the request is cancelled")


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_worker_ends_its_stream_with_an_error_and_the_next_request_is_served(
    launcher: Launcher, role: str
) -> None:
    server, neuron = slow(launcher, role)
    with open_stream(server, "forever", temperature=1, max_tokens=1000) as stream:
        assert stream.first() == "tick "
        (worker,) = [worker for worker in neuron.status()["workers"] if worker.get("pid")]
        os.kill(worker["pid"], signal.SIGKILL)
        stream.rest()
        assert stream.error is not None
        assert stream.error["message"]
        assert stream.finish_reason is None
    answer = server.post("/v1/chat/completions", chat_body("hello"))
    assert answer.json()["choices"][0]["message"]["content"] == HELLO
    (successor,) = [worker for worker in neuron.status()["workers"] if worker.get("pid")]
    assert successor["pid"] != worker["pid"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_first_signal_drains(launcher: Launcher, role: str, number: signal.Signals) -> None:
    """Running requests finish as usual; new ones get 503 with Retry-After."""
    server, _ = slow(launcher, role)
    with open_stream(server, "forever", max_tokens=100) as stream, ExitStack() as longer:
        stream.first()
        longer.enter_context(open_stream(server, "forever", max_tokens=2000)).first()
        url = server.url
        server.signal(number)
        server.wait_for("draining")
        late = httpx.post(f"{url}/v1/chat/completions", json=chat_body("hello"), timeout=60, **PLAIN)
        longer.close()  # which held the server up until the late one was answered
        assert late.status_code == 503
        assert int(late.headers["retry-after"]) >= 1
        assert late.json()["error"]["code"] == "draining"
        assert stream.rest() == (TICKS * 50).removeprefix("tick ")
        assert stream.done
    assert server.wait() == 0


@pytest.mark.parametrize("role", ROLES)
def test_the_second_signal_forces(launcher: Launcher, role: str) -> None:
    server, _ = slow(launcher, role)
    with open_stream(server, "forever", max_tokens=2000) as stream:
        stream.first()
        server.signal(signal.SIGINT)
        server.wait_for("draining")
        server.signal(signal.SIGINT)
        stream.rest()
        assert stream.error is not None
        assert server.wait() == 0


def test_a_drain_ends_what_outlasts_it(launcher: Launcher) -> None:
    server, _ = slow(launcher, "neuron", limits={"drain_s": 0.5})
    with open_stream(server, "forever", max_tokens=2000) as stream:
        stream.first()
        server.signal(signal.SIGTERM)
        stream.rest()
        assert stream.error is not None
    assert server.wait() == 0


def test_a_file_that_is_no_gguf_fails_to_load_and_the_neuron_lives(launcher: Launcher) -> None:
    models = launcher.directory / "mixed"
    models.mkdir()
    (models / "talker.gguf").symlink_to((launcher.directory / "models" / "talker.gguf").resolve())
    (models / "broken.gguf").write_bytes(b"this is no model" * 100)
    whole = (models / "talker.gguf").read_bytes()
    (models / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    neuron = launcher.neuron(models)
    gateway = launcher.gateway(neuron)
    for server in (gateway, neuron):
        for name in ("broken", "cut"):
            answer = server.post("/v1/chat/completions", chat_body("x", model=name))
            assert answer.is_error, name
            assert answer.json()["error"]["message"]
        assert server.post("/v1/chat/completions", chat_body("hello")).is_success
