"""The neuron's own routes: what it is, what it holds, and the orders it takes. Reading never loads a model or keeps one
loaded."""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import psutil
from litestar import Request, Response, get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ASGIApp

import cortex
from cortex.errors import BadRequest, Conflict, DeadlineExceeded
from cortex.neuron.api.connection import GatewayConnection
from cortex.neuron.api.infer import InferContext, InferExchange, decode_request
from cortex.neuron.api.metrics import NeuronMetrics
from cortex.neuron.api.orders import Orders
from cortex.neuron.api.report import device_processes, model_status, running_requests
from cortex.neuron.api.status_pushes import StatusPushes
from cortex.neuron.backend import LocalBackend
from cortex.neuron.catalog.pushed_profiles import ProfileSource
from cortex.neuron.devices.devices import cpu_name
from cortex.neuron.models.manager import ModelManager
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.telemetry.records import Observer
from cortex.wire.status import (
    Discovery,
    LoadJob,
    LoadOrder,
    ModelStatus,
    NeuronStatus,
    ProfilesMark,
    ProfilesOrder,
    UnloadOrder,
)
from cortex.wire.worker import Probe, ProbeReport

__all__ = ["Admin", "admin_routes"]

_PROBE_S = 10.0
_EVENT_S = 15.0
"""A load's event stream sends a comment at least this often, so that proxies keep it open."""

_load_orders = msgspec.json.Decoder(LoadOrder)
_unload_orders = msgspec.json.Decoder(UnloadOrder)
_profile_orders = msgspec.json.Decoder(ProfilesOrder)


@dataclass(frozen=True, slots=True)
class Admin:
    """What the routes work with; `boot` is unique per start of the daemon."""

    name: str
    boot: str
    started_at: float
    manager: ModelManager
    backend: LocalBackend
    lifecycle: Lifecycle
    observers: Sequence[Observer]
    profiles: ProfileSource
    rescan: Callable[[], Awaitable[None]]

    def discovery(self) -> Discovery:
        registry = self.manager.registry
        workers = registry.pool.all()
        devices = [
            msgspec.structs.replace(device, processes=device_processes(device.id, registry))
            for device in registry.devices.read()
        ]
        return Discovery(
            neuron=self.name,
            version=cortex.__version__,
            hostname=socket.gethostname(),
            devices=devices,
            llama_cpp=next((worker.llama_cpp for worker in workers if worker.llama_cpp), ""),
            os=platform.platform(),
            cpu=cpu_name(),
            cpu_count=psutil.cpu_count() or 0,
            memory_bytes=psutil.virtual_memory().total,
        )

    def status(self) -> NeuronStatus:
        manager = self.manager
        ledger = manager.registry.ledger
        devices = [
            msgspec.structs.replace(device, reserved_bytes=ledger.held(device.id))
            for device in manager.registry.devices.read()
        ]
        return NeuronStatus(
            neuron=self.name,
            version=cortex.__version__,
            boot=self.boot,
            revision=manager.registry.revision,
            state="draining" if self.lifecycle.draining else "ready",
            devices=devices,
            workers=[worker.status() for worker in manager.registry.pool.all()],
            models=[model_status(managed, manager.registry) for managed in manager.registry.models.values()],
            requests=running_requests(manager.registry),
            ledger=ledger.lines(),
            uptime_s=manager.registry.clock() - self.started_at,
            profiles=self.profiles.mark,
        )

    def model(self, name: str) -> ModelStatus:
        return model_status(self.manager.registry.get(self.backend.resolve(name)), self.manager.registry)

    async def load(self, order: LoadOrder) -> LoadJob:
        self.lifecycle.refuse_when_draining()
        order = msgspec.structs.replace(order, model=self.backend.resolve(order.model))
        loading = self.manager.order_load(order)
        if loading is not None and (order.wait or loading.done):
            await loading.wait()  # raises what a load that ended at once ended with
        return self.job(order.model)

    def job(self, model: str) -> LoadJob:
        """The load under way, or the present state without one."""
        managed = self.manager.registry.get(model)
        status = model_status(managed, self.manager.registry)
        if managed.loading is not None:
            job = managed.loading.job(self.manager.registry.clock(), status.devices)
            return msgspec.structs.replace(job, status=status)
        return LoadJob(
            id="",
            model=model,
            state=status.state,
            progress=status.progress,
            stage=status.stage,
            devices=status.devices,
            error=status.error,
            code=managed.error.code if managed.error and status.error else "",
            status=status,
        )

    async def unload(self, order: UnloadOrder) -> ModelStatus:
        model = self.backend.resolve(order.model)
        await self.manager.order_unload(msgspec.structs.replace(order, model=model))
        return model_status(self.manager.registry.get(model), self.manager.registry)

    async def take_profiles(self, order: ProfilesOrder) -> ProfilesMark:
        """Returns when the catalogue has been read by them: whoever sent them may order loads by them at once."""
        mark = self.profiles.take(order)
        await self.rescan()
        return mark

    async def probe(self, name: str) -> ProbeReport:
        """What the worker's chat probe found; only a loaded model can tell."""
        managed = self.manager.registry.get(self.backend.resolve(name))
        if managed.worker is None or managed.state != "ready":
            raise Conflict(f"{managed.entry.id} is not loaded; POST /models/load first")
        report = managed.next_probe_report()
        managed.worker.send(Probe(managed.entry.id))
        try:
            async with asyncio.timeout(_PROBE_S):
                return await asyncio.shield(report)
        except TimeoutError:
            raise DeadlineExceeded(f"the worker did not answer within {_PROBE_S:.0f} s") from None

    async def events(self, name: str) -> AsyncGenerator[bytes, None]:
        """LoadJobs as SSE until the load under way ends; the present state alone when there is none."""
        model = self.backend.resolve(name)
        loading = self.manager.registry.get(model).loading
        yield _event(self.job(model))
        if loading is None:
            return
        changes = loading.changes()
        while not loading.done and not self.lifecycle.draining:
            try:
                async with asyncio.timeout(_EVENT_S):
                    await anext(changes, None)
            except TimeoutError:
                changes = loading.changes()
                yield b": waiting\n\n"
                continue
            yield _event(loading.job(self.manager.registry.clock(), self.job(model).devices))


def admin_routes(admin: Admin, metrics: NeuronMetrics) -> list[HTTPRouteHandler]:
    """Everything a gateway or an operator may ask of a neuron."""

    @get("/metrics", sync_to_thread=False)
    def scrape() -> Response[bytes]:
        """Prometheus metrics."""
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    return [scrape, *_reading(admin), *_orders(admin), *_inference(admin)]


def _reading(admin: Admin) -> list[HTTPRouteHandler]:
    @get("/discovery", sync_to_thread=False)
    def discovery() -> Response[bytes]:
        """The host and its devices, with the processes that hold their memory."""
        return _json(admin.discovery())

    @get("/status", sync_to_thread=False)
    def status() -> Response[bytes]:
        """Devices, workers, models, requests and the memory ledger."""
        return _json(admin.status())

    @get("/models", sync_to_thread=False)
    def list_models() -> Response[bytes]:
        """The models of this neuron with their state."""
        return _json(admin.status().models)

    @get("/models/{path:path}")
    async def one_model(path: FromPath[str]) -> Response[bytes] | Stream:
        """`{path}` is a model's id: its state. With `/probe` behind the id: the chat format found in the loaded
        model. With `/events`: the progress of its load as server-sent events."""
        name, _, word = path.strip("/").rpartition("/")
        if word == "probe":
            return _json(await admin.probe(name))
        if word == "events":
            admin.model(name)
            return Stream(admin.events(name), media_type="text/event-stream")
        return _json(admin.model(path.strip("/")))

    return [discovery, status, list_models, one_model]


def _orders(admin: Admin) -> list[HTTPRouteHandler]:
    @post("/models/load", status_code=200)
    async def load(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Load a model: `{"model", "wait"}`, and what else `LoadOrder` has."""
        return _json(await admin.load(_decoded(await request.body(), _load_orders)))

    @post("/models/unload", status_code=200)
    async def unload(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Unload a model after its running requests: `{"model"}`, and what else `UnloadOrder` has."""
        return _json(await admin.unload(_decoded(await request.body(), _unload_orders)))

    @put("/models/profiles")
    async def profiles(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Replace the profiles that a gateway sent before; refused where the neuron has a models.toml of its own."""
        return _json(await admin.take_profiles(_decoded(await request.body(), _profile_orders)))

    return [load, unload, profiles]


def _inference(admin: Admin) -> list[HTTPRouteHandler]:
    context = InferContext(admin.backend, admin.lifecycle, admin.observers)
    orders = Orders(admin, admin.manager.registry)
    pushes = StatusPushes(admin.manager, admin.lifecycle, admin.status)

    @post("/infer", status_code=200)
    async def infer(request: Request[Any, Any, Any]) -> ASGIApp:
        """One request as msgpack (`wire.inference`), answered with its events as frames."""
        admin.lifecycle.refuse_when_draining()
        return InferExchange(context, decode_request(await request.body()))

    @post("/connection", status_code=200)
    async def connection() -> ASGIApp:
        """A gateway's connection: requests and orders in, events, status and replies out, as frames."""
        admin.lifecycle.refuse_when_draining()
        return GatewayConnection(context, orders, pushes)

    return [infer, connection]


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(str(error)) from error


def _json(document: object) -> Response[bytes]:
    return Response(msgspec.json.encode(document), media_type="application/json")


def _event(job: LoadJob) -> bytes:
    return b"event: load\ndata: " + msgspec.json.encode(job) + b"\n\n"
