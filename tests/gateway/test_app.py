"""The gateway's application on a real socket, over in-memory neurons behind real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog

from cortex.config.loading import load_config
from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import (
    AnthropicConfig,
    AuthConfig,
    Config,
    GatewayConfig,
    ImagesConfig,
    LimitsConfig,
    LogConfig,
    NeuronEntry,
    ResponsesConfig,
    Section,
)
from cortex.errors import ConfigError
from cortex.gateway.app import Gateway, check
from cortex.serving.http.server import Server, server_config
from cortex.wire.fleet import FleetStatus, PlacementPlan
from cortex.wire.status import LoadJob
from tests.fake_neuron import FakeNeuron
from tests.fakes import FakeNeuronServer
from tests.gateway.scheduling.world import models

LOGS: list[LogConfig] = []


@dataclass
class Written:
    """The configuration that a reload finds."""

    config: Config = field(default_factory=Config)
    profiles: Profiles = field(default_factory=Profiles)
    stamps: int = 0

    def read(self) -> tuple[Config, Profiles]:
        return self.config, self.profiles

    def look(self) -> int:
        return 0

    def change(self, **sections: Section) -> None:
        self.config = msgspec.structs.replace(self.config, **sections)


@dataclass
class Running:
    gateway: Gateway
    http: httpx.AsyncClient
    endpoints: dict[str, str]

    async def fleet(self) -> FleetStatus:
        return msgspec.json.decode((await self.http.get("/fleet")).content, type=FleetStatus)

    async def chat(self, model: str = "a", **body: object) -> httpx.Response:
        document = {"model": model, "messages": [{"role": "user", "content": "hi"}], **body}
        return await self.http.post("/v1/chat/completions", json=document)


async def until(fact: Callable[[], object], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - facts of a server under test have no events
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    *fakes: FakeNeuron, profiles: Profiles | None = None, written: Written | None = None
) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        endpoints = {fake.name: await stack.enter_async_context(FakeNeuronServer(fake).running()) for fake in fakes}
        entries = [NeuronEntry(name=name, endpoint=endpoint) for name, endpoint in endpoints.items()]
        config = Config(gateway=GatewayConfig(listen="127.0.0.1:0"), neurons=entries)
        if written is not None:
            written.config = config
        gateway = Gateway(config, profiles or Profiles(), source=written, configure_logs=LOGS.append)
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(server_config(gateway.app))
        task = asyncio.create_task(server.serve([sock]))
        try:
            async with asyncio.timeout(60):
                await server.serving.wait()
            url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                yield Running(gateway, http, endpoints)
        finally:
            gateway.lifecycle.begin_drain()
            server.stop()
            await task


async def test_a_chat_goes_all_the_way_and_back() -> None:
    async with running(FakeNeuron("n", models("a"))) as it:
        answer = await it.chat(max_tokens=3)
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2 "


async def test_listing_shows_what_is_loaded_and_what_could_be() -> None:
    fake = FakeNeuron("n", models("a", "b"))
    fake.models["a"].state, fake.models["a"].devices = "ready", ["cpu0"]
    async with running(fake) as it:
        listed = (await it.http.get("/v1/models")).json()["data"]
        assert (await it.http.get("/models")).json()["data"] == listed
        assert {entry["id"]: entry["neurons"] for entry in listed} == {"a": ["n"], "b": []}


async def test_an_unknown_model_is_404_with_the_ids_there_are() -> None:
    async with running(FakeNeuron("n", models("a"))) as it:
        answer = await it.chat("nope")
        assert answer.status_code == 404
        assert "a" in answer.json()["error"]["message"]


async def test_aliases_of_models_toml_are_names_too() -> None:
    profiles = Profiles(models=[Profile(id="a", aliases=["default", "fast"])])
    async with running(FakeNeuron("n", models("a", "b")), profiles=profiles) as it:
        assert (await it.chat("fast", max_tokens=1)).status_code == 200
        assert (await it.chat("claude-sonnet-4", max_tokens=1)).status_code == 200


async def test_reading_never_loads_anything() -> None:
    """A public bug of this kind: llama.cpp#23096."""
    fake = FakeNeuron("n", models("a"))
    async with running(fake) as it:
        for path in ("/v1/models", "/v1/models/a", "/health", "/fleet", "/fleet/placement/a"):
            assert (await it.http.get(path)).status_code == 200
        it.gateway.metrics.exposition()
        assert fake.loads == []


async def test_placement_explains_every_neuron() -> None:
    small = FakeNeuron("small", models("a"), (50,))
    async with running(small, FakeNeuron("big", models("a"))) as it:
        plan = msgspec.json.decode((await it.http.get("/fleet/placement/a")).content, type=PlacementPlan)
        verdicts = {neuron.neuron: neuron for neuron in plan.neurons}
        assert verdicts["big"].chosen
        assert verdicts["small"].verdict == "refused"
        assert "50 MiB" in verdicts["small"].reason
        assert "would be loaded on big" in plan.summary


async def test_a_model_is_loaded_pinned_and_unloaded_at_an_operators_word() -> None:
    fake = FakeNeuron("n", models("org/a"))
    async with running(fake) as it:
        job = msgspec.json.decode((await it.http.post("/fleet/models/org/a/load")).content, type=LoadJob)
        assert job.state == "loading"
        await until(lambda: fake.models["org/a"].state == "ready")
        await until(lambda: it.gateway.loop.scheduler.state.orders.all() == [])
        again = msgspec.json.decode((await it.http.post("/fleet/models/org/a/load")).content, type=LoadJob)
        assert again.state == "ready"
        assert (await it.http.post("/fleet/models/org/a/pin")).json() == {"model": "org/a", "pinned": True}
        assert (await it.fleet()).models[0].pinned
        await it.http.post("/fleet/models/org/a/unload")
        await until(lambda: fake.models["org/a"].state == "unloaded")


async def test_an_order_without_a_name_is_not_the_default_models() -> None:
    """As from a script whose variable is empty."""
    async with running(FakeNeuron("n", models("a"))) as it:
        await it.chat()
        assert (await it.http.post("/fleet/models//unload")).status_code == 404
        assert (await it.chat()).status_code == 200


async def test_a_load_that_cannot_be_is_answered_with_the_reason() -> None:
    async with running(FakeNeuron("n", models("a"), (50,))) as it:
        answer = await it.http.post("/fleet/models/a/load")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_room"


async def test_a_drained_neuron_is_shown_and_resumed() -> None:
    async with running(FakeNeuron("n", models("a"))) as it:
        await it.http.post("/fleet/neurons/n/drain")
        (shown,) = (await it.fleet()).neurons
        assert shown.drained
        refused = await it.chat()
        assert refused.status_code == 503
        useless = await it.http.get("/health")
        assert (useless.status_code, useless.json()) == (503, {"status": "unavailable"})
        await it.http.post("/fleet/neurons/n/resume")
        assert (await it.chat()).status_code == 200
        assert (await it.http.post("/fleet/neurons/x/drain")).status_code == 404


async def test_a_running_request_can_be_cancelled_by_its_id() -> None:
    fake = FakeNeuron("n", models("a"))
    fake.gate = asyncio.Event()
    async with running(fake) as it:
        asking = asyncio.create_task(it.chat())
        await until(lambda: fake.seen)
        (request,) = (await it.fleet()).requests
        assert request.dialect == "openai_chat"
        assert (await it.http.delete(f"/fleet/requests/{request.id}")).status_code == 200
        assert (await asking).status_code == 403
        await until(lambda: fake.models["a"].running == 0)
        assert (await it.http.delete(f"/fleet/requests/{request.id}")).status_code == 404


async def test_the_event_feed_begins_with_a_snapshot_and_ends_at_shutdown() -> None:
    """An open subscriber doesn't hold the gateway up."""
    async with running(FakeNeuron("n", models("a"))) as it, it.http.stream("GET", "/fleet/events") as feed:
        queues = feed.aiter_lines()
        assert await anext(queues) == "event: snapshot"
        data = (await anext(queues)).removeprefix("data: ")
        assert msgspec.json.decode(data, type=FleetStatus).neurons[0].name == "n"
        it.gateway.lifecycle.begin_drain()
        async with asyncio.timeout(60):
            async for _ in queues:
                pass


async def test_metrics_count_loads_refusals_and_the_fleet() -> None:
    async with running(FakeNeuron("n", models("a", "huge"), (150,))) as it:
        it.gateway.loop.scheduler.state.pins["a"] = True
        await it.chat()
        await it.chat("huge")
        text = it.gateway.exposition().decode()
        assert 'cortex_cold_starts_total{model="a"} 1.0' in text
        assert 'cortex_rejections_total{reason="no_room"} 1.0' in text
        assert 'cortex_neuron_up{neuron="n"} 1.0' in text
        assert 'cortex_model_in_flight{model="a"} 0.0' in text
        assert 'cortex_device_memory_bytes{device="cpu0",kind="budget",neuron="n"}' in text
        assert 'cortex_requests_total{dialect="openai_chat",model="a",neuron="n",status="200"} 1.0' in text


async def test_neurons_are_added_and_removed_while_running() -> None:
    m, n = FakeNeuron("m", models("a")), FakeNeuron("n", models("b"))
    async with running(m, n) as it:
        both = it.gateway.config
        only_m = msgspec.structs.replace(both, neurons=both.neurons[:1])
        it.gateway.apply(only_m, Profiles())
        assert (await it.chat("b")).status_code == 404
        it.gateway.apply(both, Profiles())
        await until(lambda: it.gateway.catalogue.knows("b"))
        assert (await it.chat("b")).status_code == 200


def test_exposed_listeners_and_equal_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="reachable from other machines"):
        check(Config(gateway=GatewayConfig(listen="0.0.0.0:1")))
    entry = NeuronEntry(name="n", endpoint="http://x")
    with pytest.raises(ConfigError, match="occurs twice"):
        check(Config(neurons=[entry, entry]))
    with pytest.raises(ConfigError, match="'n' and 'm' are both at http://x/"):
        check(Config(neurons=[entry, NeuronEntry(name="m", endpoint="http://x/")]))


@pytest.mark.parametrize("endpoint", ["beast:13131", "127.0.0.1:13131", "htp://beast", "http://", "http://beast:port"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"write a URL such as http://beast:13131"):
        check(Config(neurons=[NeuronEntry(name="n", endpoint=endpoint)]))


@pytest.mark.parametrize("name", ["", "rack/beast"])
def test_a_neuron_is_named_so_that_a_route_can_name_it(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name"):
        check(Config(neurons=[NeuronEntry(name=name, endpoint="http://x")]))


def test_the_example_of_a_fleet_is_a_valid_config(tmp_path: Path) -> None:
    path = tmp_path / "cortex.toml"
    path.write_text('[[neurons]]\nname = "beast"\nendpoint = "http://beast:13131"\ntoken = "t"\n')
    check(load_config(path, {}))


async def test_a_reload_applies_what_it_says_and_names_what_needs_a_restart() -> None:
    """`changed: true` came for sections that were read at the start only."""
    written = Written()
    async with running(FakeNeuron("n", models("a")), written=written) as it:

        async def reload() -> object:
            return (await it.http.post("/reload")).json()

        assert await reload() == {"changed": False, "needs_restart": []}
        written.change(limits=LimitsConfig(body_bytes=20, drain_s=7.0))
        assert await reload() == {"changed": True, "needs_restart": []}
        assert (await it.chat()).status_code == 413
        assert it.gateway.lifecycle.drain_s == 7.0
        written.change(limits=LimitsConfig(), images=ImagesConfig(fetch=True), log=LogConfig(level="debug"))
        assert await reload() == {"changed": True, "needs_restart": []}
        image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
        refused = await it.chat(messages=[{"role": "user", "content": [image]}])
        assert "not on the public internet" in refused.json()["error"]["message"]  # it was about to fetch it
        assert LOGS[-1] == LogConfig(level="debug")
        gateway = msgspec.structs.replace(written.config.gateway, listen="127.0.0.1:1")
        written.change(responses=ResponsesConfig(store="s.sqlite"), gateway=gateway)
        assert await reload() == {"changed": False, "needs_restart": ["responses.store", "gateway.listen"]}
        written.change(anthropic=AnthropicConfig(normalise_billing_header=False), auth=AuthConfig(keys=["k"]))
        assert (await reload())["changed"]  # type: ignore[index]
        assert (await it.chat()).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "key", "status", "code"),
    [
        (
            "/v1/chat/completions",
            b'{"model":"nope","messages":[{"role":"user","content":"hi"}]}',
            "k",
            404,
            "model_not_found",
        ),
        ("/v1/chat/completions", b'{"model":"a","messages":3}', "k", 400, "invalid_request"),
        ("/v1/chat/completions", b"{}", "wrong", 401, "invalid_api_key"),
        ("/v1/messages", b"{", "k", 400, "invalid_request"),
        ("/v1/responses", b"{}", "", 401, "invalid_api_key"),
    ],
)
async def test_a_refused_request_leaves_its_line_in_the_log_and_is_counted(
    path: str, body: bytes, key: str, status: int, code: str
) -> None:
    """They left neither: a client that failed for hours was not to be found."""
    written = Written()
    with structlog.testing.capture_logs() as lines:
        async with running(FakeNeuron("n", models("a")), written=written) as it:
            written.change(auth=AuthConfig(keys={"k": "me"}))
            await it.http.post("/reload")
            answer = await it.http.post(path, content=body, headers={"x-api-key": key, "x-request-id": "mine"})
            assert answer.status_code == status
            metrics = it.gateway.exposition().decode()
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["status"], line["ended"], line["finish"]) == (status, "refused", code)
    assert line["id"].startswith("mine.")
    assert line["principal"] == ("me" if key == "k" else "anonymous")
    dialect = {"/v1/messages": "anthropic_messages", "/v1/responses": "openai_responses"}.get(path, "openai_chat")
    assert f'dialect="{dialect}",model="unknown",neuron="",status="{status}"}} 1.0' in metrics


async def test_a_refusal_on_other_paths_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(FakeNeuron("n", models("a"))) as it:
        await it.http.get("/nowhere")
    (record,) = [record for record in caplog.records if record.message == "request refused"]
    assert (record.path, record.status, record.code) == ("/nowhere", 404, "not_found")


async def test_a_model_name_of_megabytes_is_not_echoed() -> None:
    async with running(FakeNeuron("n", models("a"))) as it:
        answer = await it.chat("x" * 20_000_000)
        assert answer.status_code == 404
        assert len(answer.content) < 1000
        assert "20000000 characters" in answer.json()["error"]["message"]


async def test_the_models_of_a_neuron_that_is_gone_are_listed_as_not_available() -> None:
    fake = FakeNeuron("n", models("a"))
    fake.models["a"].state, fake.models["a"].devices = "ready", ["cpu0"]
    async with running(fake) as it:
        fake.kill()
        await until(lambda: it.gateway.loop.scheduler.state.fleet.neurons["n"].lost_at)
        (model,) = (await it.http.get("/v1/models")).json()["data"]
        assert (model["available"], model["status"], model["state"]) == (False, "unloaded", "not-loaded")
        assert "no neuron that has it is connected (n: " in model["problem"]
        fake.restart()
        it.gateway.connections.refresh("n")
        await until(lambda: it.gateway.loop.scheduler.state.fleet.neurons["n"].lost_at is None)
        (model,) = (await it.http.get("/v1/models")).json()["data"]
        assert model["available"]


async def test_a_fleet_of_which_no_neuron_has_answered_is_not_an_empty_one() -> None:
    fake = FakeNeuron("n", models("a"))
    fake.kill()
    async with running(fake) as it:
        for answer in (await it.http.get("/v1/models"), await it.chat()):
            assert answer.status_code == 503
            assert "no neuron has answered yet: n: " in answer.json()["error"]["message"]
            assert answer.headers["retry-after"]
