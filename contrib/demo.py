#!/usr/bin/env python3
"""`make demo`: start `cortex up`, ask the demo model one question with streaming, print the answer, stop cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

QUESTION = "Write one sentence about the sea."
MODEL = "SmolLM2-135M-Instruct"
STARTED = "cortex is up at "


def main() -> None:
    with cortex_up() as url:
        print(f"{MODEL} at {url}\n\n> {QUESTION}\n")
        ask(url)


@contextmanager
def cortex_up() -> Iterator[str]:
    """A running `cortex up` on a free port; yields its URL. Exits if it doesn't start or ends with an error."""
    environment = {
        **os.environ,
        "CORTEX_LOG__LEVEL": "warning",
        "CORTEX_NEURON__LISTEN": "127.0.0.1:0",
        "CORTEX_GATEWAY__METRICS_LISTEN": "127.0.0.1:0",
    }
    command = [sys.executable, "-m", "cortex", "up", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        # readline returns at the latest when `cortex up` ends because a role didn't start
        line = process.stdout.readline()
        if line.startswith(STARTED):
            yield line.removeprefix(STARTED).strip()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    if code:
        sys.exit(f"cortex up ended with exit code {code}")


def ask(url: str) -> None:
    """Print the answer as it is streamed, then the time to the first token and the speed after it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 200,
    }
    started = time.monotonic()
    first: float | None = None
    usage: dict[str, Any] = {}
    for chunk in stream(f"{url}/v1/chat/completions", body):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                first = first or time.monotonic()
                print(text, end="", flush=True)
    if first is None:
        sys.exit("the model gave no answer")
    tokens = usage["completion_tokens"]
    speed = (tokens - 1) / (time.monotonic() - first)
    print(f"\n\nTTFT {first - started:.2f} s (including the load) · {tokens} tokens · {speed:.1f} tok/s")


def stream(url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event until [DONE]; exits with the server's message on an error."""
    with httpx.stream("POST", url, json=body, timeout=300, trust_env=False) as response:
        if response.is_error:
            sys.exit(f"HTTP {response.status_code}: {response.read().decode()}")
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if error := chunk.get("error"):
                sys.exit(f"the answer ended with an error: {error['message']}")
            yield chunk


if __name__ == "__main__":
    main()
