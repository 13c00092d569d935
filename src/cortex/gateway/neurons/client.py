"""Talking to neurons: status, orders, and the event streams of requests. Foreign errors are mapped here and end here.

Streams share a trunk of our own, orders and polls go over aiohttp. What came in one read is handed on as one batch,
so several events in one read leave in one write.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from cortex.errors import CortexError, InternalError, from_code
from cortex.gateway.neurons.connection import ConnectionRefused, NeuronConnections
from cortex.gateway.neurons.fleet import Lost, Neuron
from cortex.wire.events import Event
from cortex.wire.framing import FrameDecoder, FrameTooLarge
from cortex.wire.inference import Request
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, ProfilesOrder, UnloadOrder

__all__ = ["EventStream", "HttpNeurons", "Lost", "Neurons"]

T = TypeVar("T")

_SILENCE_S = 25.0
"""A neuron that is there says something every ten seconds."""


class EventStream(Protocol):
    """The answer to one request. `close` before its end cancels the request at the neuron; it may be called twice."""

    async def read(self) -> list[Event]:
        """What has come since the last read, at least one event. Raises Lost when the stream breaks off."""
        ...

    def divert(self, take: Callable[[list[Event]], bool]) -> None:
        """While the reader waits, batches other than the last may go to `take`, on the stack of whoever has them, and
        are read only if it returns False. What it raises, `read` raises."""
        ...

    def close(self) -> None: ...


class Neurons(Protocol):
    """The seam between the gateway and its neurons; tests have one in memory. Every method raises Lost, and the
    neuron's own CortexError where it answered with one."""

    async def status(self, neuron: Neuron) -> NeuronStatus: ...

    def statuses(self, neuron: Neuron) -> AsyncGenerator[NeuronStatus, None]:
        """What it says of itself whenever something changes there; ends when the neuron ends it."""
        ...

    async def load(self, neuron: Neuron, order: LoadOrder) -> LoadJob: ...
    async def unload(self, neuron: Neuron, order: UnloadOrder) -> None: ...
    async def put_profiles(self, neuron: Neuron, order: ProfilesOrder) -> None: ...
    async def infer(self, neuron: Neuron, request: Request) -> EventStream: ...


class _ErrorBody(msgspec.Struct):
    message: str
    code: str | None = None
    param: str | None = None


class _Envelope(msgspec.Struct):
    error: _ErrorBody


_status = msgspec.json.Decoder(NeuronStatus)
_pushed = msgspec.msgpack.Decoder(NeuronStatus)
_job = msgspec.json.Decoder(LoadJob)
_envelope = msgspec.json.Decoder(_Envelope)


class HttpNeurons:
    """The real one. `connect_s` bounds connecting; `answer_s` bounds a status read (nothing is computed for one).

    Orders and streams have no total limit: loading takes what it takes, and the poller breaks off whatever is under
    way with a neuron that is down.
    """

    def __init__(self, connect_s: float, answer_s: float) -> None:
        self._patient = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._prompt = aiohttp.ClientTimeout(total=answer_s, sock_connect=connect_s)
        self._listening = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=_SILENCE_S)
        self._session: aiohttp.ClientSession | None = None
        self._connections = NeuronConnections(connect_s)

    def open(self) -> None:
        """Call once, in the event loop that will use it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=self._patient,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        self._connections.close()
        if self._session is not None:
            await self._session.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "open() comes first"
        return self._session

    async def status(self, neuron: Neuron) -> NeuronStatus:
        return _decode(await self._call(neuron, "GET", "/status", None, self._prompt), _status)

    async def statuses(self, neuron: Neuron) -> AsyncGenerator[NeuronStatus, None]:
        frames = FrameDecoder(_pushed)
        try:
            async with self._http.get(
                neuron.endpoint + "/events", headers=_auth(neuron), timeout=self._listening
            ) as response:
                if response.status != 200:
                    raise _error_of(response.status, await response.read())
                async for chunk in response.content.iter_any():
                    for status in frames.feed(chunk):
                        yield status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _lost(error) from error
        except (FrameTooLarge, msgspec.DecodeError) as error:
            raise Lost(f"it pushed something that is no status: {error}") from error

    async def load(self, neuron: Neuron, order: LoadOrder) -> LoadJob:
        return _decode(await self._call(neuron, "POST", "/models/load", order, self._patient), _job)

    async def unload(self, neuron: Neuron, order: UnloadOrder) -> None:
        await self._call(neuron, "POST", "/models/unload", order, self._patient)

    async def put_profiles(self, neuron: Neuron, order: ProfilesOrder) -> None:
        await self._call(neuron, "PUT", "/models/profiles", order, self._prompt)

    async def infer(self, neuron: Neuron, request: Request) -> EventStream:
        try:
            return await self._connections.submit(neuron.endpoint, _auth(neuron).get("authorization", ""), request)
        except ConnectionRefused as refusal:
            if refusal.status == 404:
                raise Lost("it has no trunks (another version?)") from refusal
            raise _error_of(refusal.status, refusal.body) from refusal
        except OSError as error:
            raise _lost(error) from error

    async def _call(self, neuron: Neuron, method: str, path: str, body: object, limits: aiohttp.ClientTimeout) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        headers = {**_auth(neuron), **({"content-type": "application/json"} if data else {})}
        try:
            async with self._http.request(
                method, neuron.endpoint + path, data=data, headers=headers, timeout=limits
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _lost(error) from error
        if response.status >= 400:
            raise _error_of(response.status, answer)
        return answer


def _auth(neuron: Neuron) -> dict[str, str]:
    return {"authorization": f"Bearer {neuron.token}"} if neuron.token else {}


def _decode(answer: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise Lost(f"its answer can't be read (another version?): {error}") from error


def _error_of(status: int, answer: bytes) -> CortexError:
    try:
        error = _envelope.decode(answer).error
    except msgspec.DecodeError:
        return InternalError(f"it answered {status}")
    return from_code(error.code or "", error.message, param=error.param)


def _lost(error: BaseException) -> Lost:
    """A timeout may be a slow neuron; every other failure means that the connection is gone."""
    if isinstance(error, TimeoutError):
        return Lost("it doesn't answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):  # whose own words tell of sockets and TLS contexts
        return Lost(_os_words(error.os_error), refused=True)
    return Lost(str(error) or type(error).__name__, refused=True)


def _os_words(error: OSError) -> str:
    """`connection refused`, `name or service not known`: resolvers have negative numbers of their own."""
    number = error.errno or 0
    return (os.strerror(number) if number > 0 else error.strerror or str(error)).lower()
