"""A small client of the operators' HTTP surface, shared by `cortex top` and the operator commands."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from cortex.errors import BadRequest, ConfigError, CortexError, Unavailable, from_code
from cortex.wire.fleet import FleetModel, FleetNeuron, FleetStatus, PlacementPlan
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, UnloadOrder

__all__ = ["FleetApi", "job_after", "server_url"]

T = TypeVar("T")


_NEARNESS = ("unloaded", "failed", "unloading", "loading", "ready")
_GIVEN_UP = "no room came free for it in time; `cortex plan` says what stands in the way"


class _ErrorBody(msgspec.Struct):
    message: str
    code: str | None = None


class _Envelope(msgspec.Struct):
    error: _ErrorBody


class FleetApi:
    """Calls a gateway; a neuron alone answers too, shown as a fleet of one.

    Every method raises CortexError: the server's own words, or Unavailable when it can't be reached.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 5.0):
        """Raises ConfigError for a URL that is none."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = server_url(url)
        # The system's certificates are read only where they are used: that takes longer than a call on loopback.
        tls = self.url.startswith("https:")
        try:
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, verify=tls)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{url!r} is no URL of a gateway or neuron: {error}") from error
        self._is_neuron: bool | None = None

    def close(self) -> None:
        self._client.close()

    def fleet(self) -> FleetStatus:
        """The fleet now; a cheap read that keeps nothing alive."""
        response = self._send("GET", "/fleet")
        self._is_neuron = response.status_code == 404
        if not self._is_neuron:
            return self._decode(response, FleetStatus)
        return self._as_fleet(self._decode(self._send("GET", "/status"), NeuronStatus))

    def plan(self, model: str) -> PlacementPlan:
        self._wants_gateway("plan")
        return self._decode(self._send("GET", f"/fleet/placement/{_path(model)}"), PlacementPlan)

    def load(self, model: str) -> LoadJob:
        """Start (or join) a load and return at once."""
        if self._alone():
            return self._decode(self._send("POST", "/models/load", LoadOrder(model=model, wait=False)), LoadJob)
        return self._decode(self._send("POST", f"/fleet/models/{_path(model)}/load"), LoadJob)

    def unload(self, model: str) -> bytes:
        """Orders answer with the server's JSON document, as it came."""
        if self._alone():
            return self._order("POST", "/models/unload", UnloadOrder(model=model, wait=False))
        return self._order("POST", f"/fleet/models/{_path(model)}/unload")

    def pin(self, model: str, pinned: bool) -> bytes:
        self._wants_gateway("pin" if pinned else "unpin")
        return self._order("POST", f"/fleet/models/{_path(model)}/{'pin' if pinned else 'unpin'}")

    def drain(self, neuron: str, drained: bool) -> bytes:
        self._wants_gateway("drain" if drained else "resume")
        return self._order("POST", f"/fleet/neurons/{_path(neuron)}/{'drain' if drained else 'resume'}")

    def cancel(self, request_id: str) -> bytes:
        self._wants_gateway("cancel")
        return self._order("DELETE", f"/fleet/requests/{_path(request_id)}")

    def watch_load(self, job: LoadJob, interval_s: float = 0.3) -> Iterator[LoadJob]:
        """Yield the job's state until it ends, as the fleet's polled documents tell it."""
        yield job
        while job.state == "loading":
            time.sleep(interval_s)
            job = job_after(job, self.fleet())
            yield job

    def _alone(self) -> bool:
        """Whether a neuron answers here, not a gateway; asked once."""
        if self._is_neuron is None:
            self._is_neuron = self._send("GET", "/fleet").status_code == 404
        return self._is_neuron

    def _wants_gateway(self, verb: str) -> None:
        if self._alone():
            raise BadRequest(f"{self.url} is a neuron; a gateway is needed to {verb}")

    def _order(self, method: str, path: str, body: object = None) -> bytes:
        response = self._send(method, path, body)
        self._check(response)
        return response.content

    def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        content = msgspec.json.encode(body) if body is not None else None
        try:
            return self._client.request(
                method, path, content=content, headers={"content-type": "application/json"} if content else None
            )
        except httpx.HTTPError as error:
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
            raise Unavailable(f"{self.url} can't be reached: {reason}") from error

    def _decode(self, response: httpx.Response, type_: type[T]) -> T:
        self._check(response)
        return msgspec.json.decode(response.content, type=type_)

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            error = msgspec.json.decode(response.content, type=_Envelope).error
        except msgspec.DecodeError:
            raise CortexError(f"{self.url} answered {response.status_code} to {response.request.url.path}") from None
        raise from_code(error.code or "", error.message)

    def _as_fleet(self, status: NeuronStatus) -> FleetStatus:
        healthy = all(device.healthy for device in status.devices)
        neuron = FleetNeuron(
            name=status.neuron,
            endpoint=self.url,
            health="healthy" if healthy else "degraded",
            drained=status.state == "draining",
            age_s=0.0,
            status=status,
        )
        return FleetStatus(
            version=status.version, boot=status.boot, state=status.state, neurons=[neuron], uptime_s=status.uptime_s
        )


def job_after(job: LoadJob, fleet: FleetStatus) -> LoadJob:
    """The job as `fleet` shows it. A load that nobody carries out any more has failed: else it is watched for ever."""
    found = [
        status
        for neuron in fleet.neurons
        if neuron.status
        for status in neuron.status.models
        if status.card.id == job.model
    ]
    best = max(found, key=lambda status: _NEARNESS.index(status.state), default=None)
    counts = next((model for model in fleet.models if model.id == job.model), FleetModel(job.model))
    if best is not None and best.state in ("ready", "loading"):
        return msgspec.structs.replace(
            job, state=best.state, progress=best.progress, stage=best.stage, eta_s=best.eta_s, error=best.error
        )
    if job.id in counts.waiting_loads:
        return msgspec.structs.replace(job, stage="waits for room")
    error = (best.error if best else "") or counts.last_error
    return msgspec.structs.replace(job, state="failed", error=error or _GIVEN_UP)


def server_url(url: str) -> str:
    """What people write for a server, as its URL: `host:port`, or the `/v1` that OpenAI clients want."""
    url = url.rstrip("/").removesuffix("/v1")
    return url if "://" in url else f"http://{url}"


def _path(word: str) -> str:
    return quote(word, safe="/")
