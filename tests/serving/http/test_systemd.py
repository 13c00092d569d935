from __future__ import annotations

import socket
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from cortex.serving.http.systemd import notify


def test_systemd_is_told_by_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory with a short name, as a socket's may have no more than 107 characters."""
    with TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        path = f"{directory}/notify"
        systemd.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1", "STATUS=listening")
        assert systemd.recv(1024) == b"READY=1\nSTATUS=listening"


def test_an_abstract_name_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = f"cortex-test-{uuid4().hex}"
        systemd.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("STOPPING=1")
        assert systemd.recv(1024) == b"STOPPING=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
