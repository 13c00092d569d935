"""uvicorn's HTTP/1.1 connection, found by the application in its scope, and without upgrades: they are declined.

The application asks it whether the transport takes data (`cortex.serving.exchange.response_writer`). uvicorn keeps
that in `flow.write_paused`, which is no public interface: `tests/serving/http/test_protocol.py` says what breaks
without it.

Java's HttpClient (Spring AI, LangChain4j, JetBrains' assistant) offers HTTP/2 with every request over plain HTTP:
`Connection: Upgrade, HTTP2-Settings`, `Upgrade: h2c`. RFC 9110 7.8 lets a server ignore the offer and answer as usual.
httptools stops parsing at it, and uvicorn drops the body that follows (Kludex/uvicorn#2722).
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cortex.serving.exchange.response_writer import CONNECTION

__all__ = ["Connection"]

_OFFER = {b"upgrade", b"http2-settings"}


class Connection(HttpToolsProtocol):
    """A request with an offer is parsed a second time, without it; nothing is begun on the first pass."""

    @property
    def write_paused(self) -> bool:
        """Whether the transport's buffer is full."""
        return self.flow.write_paused

    def abort(self) -> None:
        """Close the connection without sending what its transport holds."""
        self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _decline(self, rest: bytes) -> None:
        """`rest` is what came behind the head. CONNECT asks for a tunnel, with or without a header: there is none."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("Tunnels are not offered here.")
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s" % header for header in self.headers if header[0] not in _OFFER]
        head = b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *lines, b"", b""])
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(head + rest)
