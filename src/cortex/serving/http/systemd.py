"""Notifies systemd of the service's state (sd_notify(3)). Does nothing without systemd."""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(*assignments: str) -> None:
    """Sends assignments such as "READY=1" to the socket in NOTIFY_SOCKET, if that is set.

    A name that begins with `@` is in Linux's abstract namespace. Raises OSError when the socket can't be reached:
    systemd would otherwise kill the service after its start timeout without a visible reason.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto("\n".join(assignments).encode(), address)
