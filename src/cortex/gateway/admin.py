"""The operators' routes of the gateway. Each changes something by posting one event to the loop, or reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import structs

from cortex.errors import BadRequest, ConfigError, NotFound
from cortex.gateway.report import fleet_status
from cortex.gateway.requests.mailboxes import Mailbox, Mailboxes
from cortex.gateway.scheduling.assessments import assess_all
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.effects import Effect, Job, ModelReady, Reject
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.placement.plan import placement_plan
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.reload import Reloader
from cortex.wire.fleet import FleetStatus, PlacementPlan
from cortex.wire.status import LoadJob

__all__ = ["Admin", "admin_routes"]

_SNAPSHOT_S = 0.5
"""Least time between two snapshots on `GET /fleet/events`, seconds."""


@dataclass(slots=True)
class Admin:
    """What the routes work with."""

    loop: Loop
    mailboxes: Mailboxes
    catalogue: Catalogue
    lifecycle: Lifecycle
    reloader: Reloader
    boot: str
    started_at: float

    def status(self) -> FleetStatus:
        return fleet_status(
            self.loop.scheduler.state,
            self.loop.clock(),
            boot=self.boot,
            draining=self.lifecycle.draining,
            started_at=self.started_at,
            config_error=self.reloader.error,
        )

    def plan(self, model: str) -> PlacementPlan:
        return placement_plan(model, assess_all(self.loop.scheduler.state, model, self.loop.clock()))

    def load(self, model: str) -> LoadJob:
        """Order a load as a waiting request would, and answer at once. Raises what the scheduler refuses with."""
        job = Job(f"load-{uuid4().hex[:12]}", model, self.loop.clock())
        with self.mailboxes.mailbox(job.id) as mailbox:
            self.loop.post(lambda scheduler, now: scheduler.on_request(job, now))
            return LoadJob(job.id, model, _answer(mailbox))

    def tell(self, event: Callable[[Scheduler, float], list[Effect]]) -> None:
        self.loop.post(event)

    def neuron(self, name: str) -> str:
        fleet = self.loop.scheduler.state.fleet
        if fleet.get(name) is None:
            raise NotFound(f"there is no neuron {name!r}; there are {', '.join(fleet.neurons) or 'none'}")
        return name

    async def snapshots(self) -> AsyncGenerator[bytes, None]:
        """Snapshots as SSE while they differ, until the gateway drains."""
        drain = asyncio.ensure_future(self.lifecycle.wait_for_drain())
        sent = b""
        try:
            while not drain.done():
                status = self.status()
                comparable = msgspec.json.encode(_without_ages(status))
                if comparable != sent:
                    sent = comparable
                    yield b"event: snapshot\ndata: " + msgspec.json.encode(status) + b"\n\n"
                await asyncio.wait({drain}, timeout=_SNAPSHOT_S)
        finally:
            drain.cancel()


def admin_routes(admin: Admin) -> list[HTTPRouteHandler]:
    return [*_reading(admin), *_steering(admin)]


def _reading(admin: Admin) -> list[HTTPRouteHandler]:
    @get("/fleet", sync_to_thread=False)
    def fleet() -> Response[bytes]:
        """Neurons, devices, models and requests of the whole fleet."""
        return _json(admin.status())

    @get("/fleet/events", sync_to_thread=False)
    def events() -> Stream:
        """The document of `/fleet` as server-sent events, one after each change, at most two a second."""
        return Stream(admin.snapshots(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    @get("/fleet/placement/{model:path}", sync_to_thread=False)
    def placement(model: FromPath[str]) -> Response[bytes]:
        """For every neuron and device: whether the model would fit, what would be evicted, or why not."""
        return _json(admin.plan(admin.catalogue.resolve(model.strip("/"))))

    return [fleet, events, placement]


def _steering(admin: Admin) -> list[HTTPRouteHandler]:
    # Model ids contain slashes, so the verb is the path's last segment.
    @post("/fleet/models/{rest:path}", status_code=200, sync_to_thread=False)
    def model(rest: FromPath[str]) -> Response[bytes]:
        """Order something for a model: `{rest}` is the model's id, a slash, and `load`, `unload`, `pin` or `unpin`."""
        name, _, verb = rest.strip("/").rpartition("/")
        if not name:
            raise NotFound("say which model: /fleet/models/{id}/{verb}")
        return _json(_on_model(admin, admin.catalogue.resolve(name), verb))

    @post("/fleet/neurons/{name:str}/{verb:str}", status_code=200, sync_to_thread=False)
    def neuron(name: FromPath[str], verb: FromPath[str]) -> Response[bytes]:
        """Stop giving a neuron new requests, or start again: `{verb}` is `drain` or `resume`."""
        if verb not in ("drain", "resume"):
            raise NotFound(f"a neuron can be told to drain or to resume, not {verb!r}")
        name = admin.neuron(name)
        admin.tell(lambda scheduler, now: scheduler.on_drain(name, verb == "drain", now))
        return _json({"neuron": name, "drained": verb == "drain"})

    @delete("/fleet/requests/{request_id:str}", status_code=200, sync_to_thread=False)
    def cancel(request_id: FromPath[str]) -> Response[bytes]:
        """Cancel a waiting or running request."""
        if not admin.mailboxes.cancel(request_id):
            raise NotFound(f"no request {request_id!r} is waiting or running")
        return _json({"id": request_id, "cancelled": True})

    @post("/reload", status_code=200, sync_to_thread=False)
    def reload() -> Response[bytes]:
        """Read the configuration files again and apply what changed; `needs_restart` names what can't be applied."""
        try:
            return _json(admin.reloader.reload())
        except ConfigError as error:
            raise BadRequest(f"the old configuration stays: {error.message}") from error

    return [model, neuron, cancel, reload]


def _on_model(admin: Admin, model: str, verb: str) -> object:
    match verb:
        case "load":
            return admin.load(model)
        case "unload":
            admin.tell(lambda scheduler, now: scheduler.on_unload(model, False, now))
            return {"model": model, "unloading": True}
        case "pin" | "unpin":
            admin.tell(lambda scheduler, now: scheduler.on_pin(model, verb == "pin", now))
            return {"model": model, "pinned": verb == "pin"}
        case _:
            raise NotFound(f"a model can be told to load, unload, pin or unpin, not {verb!r}")


def _answer(mailbox: Mailbox) -> Literal["ready", "loading"]:
    """`ready`, or `loading` when the scheduler has sent no message yet; raises what it refused with."""
    match mailbox.get_nowait():
        case Reject(failed=refusal):
            raise refusal.to_error()
        case ModelReady():
            return "ready"
        case _:
            return "loading"


def _without_ages(status: FleetStatus) -> FleetStatus:
    """Without the fields that change by the mere passing of time: they alone are no reason for a snapshot."""
    neurons = [
        structs.replace(neuron, age_s=None, status=neuron.status and structs.replace(neuron.status, uptime_s=0.0))
        for neuron in status.neurons
    ]
    requests = [structs.replace(request, age_s=0.0) for request in status.requests]
    return structs.replace(status, uptime_s=0.0, neurons=neurons, requests=requests)


def _json(document: object) -> Response[bytes]:
    return Response(msgspec.json.encode(document), media_type="application/json")
