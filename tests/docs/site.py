"""Executes the marked blocks of a page in a temporary home, on free loopback ports.

What a page says of hosts is replaced: every `host:port` with one of cortex's ports by 127.0.0.1 and a free port, and
directories such as /srv and /etc/cortex by those below the temporary home. Configuration files get the ports that
they leave to the defaults, and the CPU as their device.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, expected
from tests.e2e.processes import eventually, toml

__all__ = ["UP", "Site"]

_ADDRESS = re.compile(r"(?<![\w.])(?P<host>[a-z\d][\w.-]*):(?P<port>31313|31314|13131)\b")
_DIRECTORY = re.compile(r"(?<![\w.}])/(?=(?:srv|etc/cortex|var/lib/cortex)\b)")
_TIMEOUT_S = 120.0
UP = Block(Path(__file__), 0, "sh", "serve", "cortex is up at", "cortex up\n")
_ENVIRONMENT = ".environment"
"""File with the exported variables of the blocks so far."""


class Site:
    """The machine that a page's reader is at. With `running`, a site that serves: its ports are used, and `cortex up`
    isn't started once more."""

    def __init__(self, home: Path, running: Site | None = None) -> None:
        self.home = home
        self.ports: dict[str, int] = running.ports if running else {}
        self.printed = ""
        self._running = running
        self._servers: list[subprocess.Popen[str]] = []
        (home / _ENVIRONMENT).touch()
        (home / "default.toml").write_text(self._adapted(""))

    def do(self, block: Block) -> None:
        """Whatever the block's mark says. Raises AssertionError with what was printed."""
        match block.kind:
            case "run":
                self._run(block)
            case "serve":
                self._serve(block)
            case "file":
                path = self.home / self._translated(block.argument)
                path.parent.mkdir(parents=True, exist_ok=True)
                adapt = self._adapted if self._is_cortex_toml(block) else self._translated
                path.write_text(adapt(block.text))
            case "output":
                self._compare(block)

    def stop(self) -> None:
        """SIGTERM to what the page has started, latest first; each must end in time with code 0."""
        codes = []
        for server in reversed(self._servers):
            server.terminate()
            codes.append(server.wait(_TIMEOUT_S))
        self._servers.clear()
        assert not any(codes), self._log()

    def _run(self, block: Block) -> None:
        done = subprocess.run(
            self._command(block),
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        self.printed = done.stdout
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{self.printed}\n{self._log()}"

    def _command(self, block: Block) -> list[str]:
        text = self._translated(block.text)
        if block.language == "python":
            return [sys.executable, "-c", text]
        return ["sh", "-euc", f". ./{_ENVIRONMENT}\n{text}\nexport -p > {_ENVIRONMENT}"]

    def _serve(self, block: Block) -> None:
        if self._running and block.text == UP.text:
            self.printed = self._running.printed
            return
        log = self.home / f"server-{len(self._servers)}.log"
        with log.open("w") as output:
            command = f". ./{_ENVIRONMENT}\nexec {self._translated(block.text)}"
            server = subprocess.Popen(
                ["sh", "-euc", command],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._servers.append(server)

        def up() -> bool:
            self.printed = log.read_text()
            assert server.poll() is None, f"{block} ended with {server.returncode}:\n{self.printed}"
            return block.argument in self.printed

        eventually(up, _TIMEOUT_S, f"{block}: {block.argument!r}")

    def _compare(self, block: Block) -> None:
        for pattern in expected(replace(block, text=self._translated(block.text))):
            assert pattern.search(self.printed), f"{block}: {pattern.pattern} is not in\n{self.printed}"

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but the path; downloads are off."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HF_HUB_OFFLINE": "1",
            "CORTEX_CONFIG": str(self.home / "default.toml"),
            "CORTEX_URL": f"http://{self._translated('127.0.0.1:31313')}",
        }

    def _translated(self, text: str) -> str:
        text = _ADDRESS.sub(lambda match: f"127.0.0.1:{self._port(match[0])}", text)
        return _DIRECTORY.sub(f"{self.home}/", text)

    def _port(self, address: str) -> int:
        if address not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.ports[address] = probe.getsockname()[1]
        return self.ports[address]

    @staticmethod
    def _is_cortex_toml(block: Block) -> bool:
        return block.language == "toml" and not isinstance(tomllib.loads(block.text).get("models"), list)

    def _adapted(self, text: str) -> str:
        """A cortex.toml for this test: no port that the system didn't choose, no GPU, one thread."""
        document: dict[str, Any] = tomllib.loads(self._translated(text))
        gateway, neuron = document.setdefault("gateway", {}), document.setdefault("neuron", {})
        gateway.setdefault("listen", self._translated("127.0.0.1:31313"))
        gateway.setdefault("metrics_listen", self._translated("127.0.0.1:31314"))
        neuron.setdefault("listen", self._translated("127.0.0.1:13131"))
        neuron |= {"gpus": "none", "threads": 1}
        return toml(document)

    def _log(self) -> str:
        return "\n".join(path.read_text()[-4000:] for path in sorted(self.home.glob("server-*.log")))
