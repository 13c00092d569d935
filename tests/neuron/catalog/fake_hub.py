"""A Hugging Face Hub on loopback: as much of its HTTP as a download needs, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["FakeHub", "fake_hub"]

COMMIT = "c" * 40


@dataclass
class FakeHub:
    """`files` by name, of the one repository `org/repo`; `org/gated` answers 403, anything else 404.

    `cut_after`: the next download's connection breaks after so many bytes. `lie`: serve other bytes than promised.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    lie: bool = False
    served: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def sibling(self, name: str, size: int) -> dict[str, object]:
        return {"rfilename": name, "size": size, "lfs": {"sha256": self.sha256(name), "size": size, "pointerSize": 1}}

    def info(self) -> bytes:
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "lfs": {"sha256": self.sha256(name), "size": len(data), "pointerSize": 1},
            }
            for name, data in self.files.items()
        ]
        return json.dumps({"id": "org/repo", "sha": COMMIT, "siblings": siblings}).encode()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            """Tests look at `served`."""

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if "org/gated" in path:
                return self.refuse(403, "GatedRepo")
            if "org/repo" not in path:
                return self.refuse(404, "RepoNotFound")
            if path.startswith("/api/models/"):
                return self.send(200, hub.info(), body=True)
            name = path.rpartition("/")[2]
            if name not in hub.files:
                return self.refuse(404, "EntryNotFound")
            return self.file(name, body=body)

        def file(self, name: str, *, body: bool) -> None:
            data = b"x" * len(hub.files[name]) if hub.lie else hub.files[name]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if body:
                hub.served.append((name, self.headers.get("Range") or ""))
            self.send(206 if self.headers.get("Range") else 200, data, body=body, name=name, start=start)

        def send(self, status: int, data: bytes, *, body: bool, name: str = "", start: int = 0) -> None:
            self.send_response(status)
            if name:
                self.send_header("ETag", f'"{hub.sha256(name)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Accept-Ranges", "bytes")
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Type", "application/json" if not name else "application/octet-stream")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            if name and hub.cut_after is not None:
                self.wfile.write(data[start : start + hub.cut_after])
                hub.cut_after = None
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
