"""A loopback HTTP server that answers the operators' routes from a recorded fleet and records the orders it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from cortex.wire.fleet import FleetStatus, NeuronPlan, PlacementPlan
from cortex.wire.status import LoadJob
from tests.top.fleets import beast, fleet


class FakeGateway:
    """`orders` are the (method, path) of every request but reads of the fleet."""

    def __init__(self, document: FleetStatus | None, key: str | None = None) -> None:
        self.document = document
        self.key = key
        self.orders: list[tuple[str, str]] = []
        self.url = ""

    def answer(self, method: str, path: str, authorization: str | None) -> tuple[int, object]:
        if self.key and authorization != f"Bearer {self.key}":
            return 401, error("invalid_api_key", "no key, or an unknown one")
        if path == "/fleet" and self.document is not None:
            return 200, self.document
        if path == "/status" and self.document is None:
            return 200, beast()
        if path == "/fleet":
            return 404, error("not_found", "no such path")
        self.orders.append((method, path))
        if path.startswith("/fleet/placement/"):
            return 200, PlacementPlan(model="m", neurons=[NeuronPlan("beast", "fits", "4 GiB free", chosen=True)])
        if "nowhere" in path:
            return 404, error("model_not_found", "nowhere is not a model; there are: a, b")
        if path.endswith("/load"):
            model = "phi-4" if "phi-4" in path else "Qwen/Qwen3.6-27B-GGUF"
            return 200, LoadJob(id="j1", model=model, state="loading")
        return 200, {}


def error(code: str, message: str) -> object:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


@contextmanager
def fake_gateway(
    document: FleetStatus | None = None, *, alone: bool = False, key: str | None = None, port: int = 0
) -> Iterator[FakeGateway]:
    """Serve until the block ends; with `alone` the server plays a neuron without a gateway."""
    gateway = FakeGateway(None if alone else document or fleet(), key)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = gateway.answer(self.command, self.path, self.headers.get("authorization"))
            data = msgspec.json.encode(body)
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join(timeout=60)
        server.server_close()
