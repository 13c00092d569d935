"""Telling systemd how the service fares (sd_notify(3)); without systemd nothing happens."""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(*assignments: str) -> None:
    """Send e.g. "READY=1" to the socket that systemd named in NOTIFY_SOCKET, if it did.

    A name that begins with `@` is in Linux's abstract namespace. Raises OSError when the socket can't be reached: a
    service that can't say that it is ready would be killed after its start timeout for no visible reason.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto("\n".join(assignments).encode(), address)
