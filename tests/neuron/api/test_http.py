"""The neuron's routes, through its application."""

from __future__ import annotations

import httpx
import msgspec

from cortex.wire.events import Event, Failed, Finished
from cortex.wire.framing import FrameDecoder
from cortex.wire.status import Discovery, LoadJob, ModelStatus, NeuronStatus
from cortex.wire.worker import ProbeReport


def client(neuron: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=neuron.neuron.app)  # type: ignore[attr-defined]
    return httpx.AsyncClient(transport=transport, base_url="http://neuron", timeout=60)


def frames(body: bytes) -> list[Event]:
    decoder = FrameDecoder(msgspec.msgpack.Decoder(list[Event]))
    batches = decoder.feed(body)
    assert decoder.pending == 0
    return [event for batch in batches for event in batch]


async def test_infer_answers_with_frames_that_end_once(bench) -> None:
    async with bench("m") as neuron, client(neuron) as http:
        reply = await http.post("/infer", content=msgspec.msgpack.encode(neuron.request("m", "hello")))
        assert reply.headers["content-type"] == "application/x-msgpack"
        events = frames(reply.content)
        assert isinstance(events[-1], Finished)
        assert sum(isinstance(event, Finished | Failed) for event in events) == 1


async def test_an_error_of_infer_is_its_last_event(bench) -> None:
    async with bench("m") as neuron, client(neuron) as http:
        reply = await http.post("/infer", content=msgspec.msgpack.encode(neuron.request("nope")))
        assert reply.status_code == 200
        (event,) = frames(reply.content)
        assert isinstance(event, Failed)
        assert event.code == "model_not_found"


async def test_what_is_no_request_is_a_bad_request(bench) -> None:
    async with bench("m") as neuron, client(neuron) as http:
        reply = await http.post("/infer", content=b"\xc1")
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "invalid_request"


async def test_documents_are_the_wire_structs(bench) -> None:
    async with bench("m", devices=2) as neuron, client(neuron) as http:
        discovery = msgspec.json.decode((await http.get("/discovery")).content, type=Discovery)
        assert [device.id for device in discovery.devices] == ["cpu0", "cpu1"]
        job = msgspec.json.decode((await http.post("/models/load", json={"model": "m"})).content, type=LoadJob)
        assert job.state == "ready"
        status = msgspec.json.decode((await http.get("/status")).content, type=NeuronStatus)
        assert status.workers[0].state == "ready"
        assert status.ledger[0].model == "m"
        models = msgspec.json.decode((await http.get("/models")).content, type=list[ModelStatus])
        assert [model.card.id for model in models] == ["m"]
        assert (await http.get("/models/m")).status_code == 200
        report = msgspec.json.decode((await http.get("/models/m/probe")).content, type=ProbeReport)
        assert report.self_test == "passed"


async def test_orders_fail_with_the_status_that_tells_why(bench) -> None:
    async with bench("m", "bad") as neuron, client(neuron) as http:
        assert (await http.post("/models/load", json={"model": "nope"})).status_code == 404
        assert (await http.post("/models/load", json={"model": "bad"})).status_code == 503
        assert (await http.post("/models/load", json={"model": "m", "revision": -1})).status_code == 409
        assert (await http.post("/models/load", json={"modell": "m"})).status_code == 400
        assert (await http.get("/models/m/probe")).status_code == 409


async def test_a_load_is_followed_as_server_sent_events(bench) -> None:
    async with bench("slow-m") as neuron, client(neuron) as http:
        await http.post("/models/load", json={"model": "slow-m", "wait": False})
        reply = await http.get("/models/slow-m/events")
        assert reply.headers["content-type"].startswith("text/event-stream")
        last = [line for line in reply.text.splitlines() if line.startswith("data: ")][-1]
        assert msgspec.json.decode(last.removeprefix("data: "), type=LoadJob).state == "ready"


async def test_metrics_count_loads_and_show_the_ledger(bench) -> None:
    async with bench("m") as neuron, client(neuron) as http:
        await neuron.ask("m")
        text = (await http.get("/metrics")).text
        assert 'cortex_load_seconds_count{model="m",outcome="ok"} 1.0' in text
        assert 'cortex_device_memory_bytes{device="cpu0",kind="reserved"}' in text
