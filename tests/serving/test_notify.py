from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cortex.serving.notify import notify


def test_systemd_is_told_by_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1", "STATUS=listening")
        assert systemd.recv(1024) == b"READY=1\nSTATUS=listening"


def test_an_abstract_name_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0cortex-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@cortex-test-notify")
        notify("STOPPING=1")
        assert systemd.recv(1024) == b"STOPPING=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
