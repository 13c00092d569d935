"""An HTTP client for the operators' routes of a gateway or a neuron, shared by `cortex top` and the commands."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from cortex.errors import BadRequest, ConfigError, CortexError, Unavailable, from_code
from cortex.operator.load_job import updated_job
from cortex.wire.fleet import FleetNeuron, FleetStatus, PlacementPlan
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, UnloadOrder

__all__ = ["FleetApi", "server_url"]

T = TypeVar("T")


class _ErrorBody(msgspec.Struct):
    message: str
    code: str | None = None


class _Envelope(msgspec.Struct):
    error: _ErrorBody


class FleetApi:
    """Synchronous calls to a gateway. A neuron without a gateway works too and is shown as a fleet of one neuron.

    Every method raises CortexError: the server's error, or Unavailable when the server can't be reached. Not for use
    by several threads at once.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 5.0):
        """Raises ConfigError for an invalid URL."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = server_url(url)
        # The system's certificates are read for https only: reading them takes longer than a call on loopback.
        tls = self.url.startswith("https:")
        try:
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, verify=tls)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{url!r} is not a URL: {error}") from error
        self._neuron_alone: bool | None = None

    def fleet(self) -> FleetStatus:
        """The fleet's current state. Reading it resets no idle timer."""
        response = self._send("GET", "/fleet")
        self._neuron_alone = response.status_code == 404
        if not self._neuron_alone:
            return self._decode(response, FleetStatus)
        return self._as_fleet(self._decode(self._send("GET", "/status"), NeuronStatus))

    def plan(self, model: str) -> PlacementPlan:
        """Where the gateway would place `model`, and why."""
        self._require_gateway("plan")
        return self._decode(self._send("GET", f"/fleet/placement/{_path(model)}"), PlacementPlan)

    def load(self, model: str) -> LoadJob:
        """Start a load, or join one that is running, and return at once."""
        if self._is_neuron_alone():
            return self._decode(self._send("POST", "/models/load", LoadOrder(model=model, wait=False)), LoadJob)
        return self._decode(self._send("POST", f"/fleet/models/{_path(model)}/load"), LoadJob)

    def unload(self, model: str) -> bytes:
        """Unload `model` wherever it is loaded. This and the following orders return the server's JSON document."""
        if self._is_neuron_alone():
            return self._order("POST", "/models/unload", UnloadOrder(model=model, wait=False))
        return self._order("POST", f"/fleet/models/{_path(model)}/unload")

    def pin(self, model: str, pinned: bool) -> bytes:
        """Pin `model`, or unpin it."""
        self._require_gateway("pin" if pinned else "unpin")
        return self._order("POST", f"/fleet/models/{_path(model)}/{'pin' if pinned else 'unpin'}")

    def drain(self, neuron: str, drained: bool) -> bytes:
        """Drain `neuron`, or let it have new requests again."""
        self._require_gateway("drain" if drained else "resume")
        return self._order("POST", f"/fleet/neurons/{_path(neuron)}/{'drain' if drained else 'resume'}")

    def cancel(self, request_id: str) -> bytes:
        """Cancel a request that is queued or running."""
        self._require_gateway("cancel")
        return self._order("DELETE", f"/fleet/requests/{_path(request_id)}")

    def watch_load(self, job: LoadJob, interval_s: float = 0.3) -> Iterator[LoadJob]:
        """Yield the job's state until it ends, polling the fleet every `interval_s`."""
        yield job
        while job.state == "loading":
            time.sleep(interval_s)
            job = updated_job(job, self.fleet())
            yield job

    def _is_neuron_alone(self) -> bool:
        """Whether the server is a neuron, not a gateway; asked once."""
        if self._neuron_alone is None:
            self._neuron_alone = self._send("GET", "/fleet").status_code == 404
        return self._neuron_alone

    def _require_gateway(self, verb: str) -> None:
        if self._is_neuron_alone():
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


def server_url(url: str) -> str:
    """The base URL of a server given as a URL, as `host:port`, or with the `/v1` that OpenAI clients need."""
    url = url.rstrip("/").removesuffix("/v1")
    return url if "://" in url else f"http://{url}"


def _path(name: str) -> str:
    return quote(name, safe="/")
