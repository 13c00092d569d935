"""Compare greedy answers of cortex and llama-server: the same model, one prompt at a time.

python contrib/bench/greedy.py MODEL.gguf [--threads 1] [--tokens 32]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx
from vs_llama_server import MODEL, cortex, ensure_llama_server, llama_server

PROMPTS = [
    "The capital of France is", "Once upon a time", "The three primary colours are", "def fibonacci(n):",
    "Water boils at", "My favourite season is", "In the year 1969", "The opposite of hot is",
    "A recipe for bread:", "Dear Sir or Madam,", "The largest planet is", "To be or not to be,",
    "Roses are red,", "1, 2, 3, 4,", "The dog ran into", "SELECT name FROM",
    "She opened the door and", "The speed of light is", "Breaking news:", "import numpy as",
]  # fmt: skip


def answers(url: str, tokens: int) -> list[str]:
    body = {"model": MODEL, "temperature": 0, "max_tokens": tokens, "seed": 1}
    return [
        httpx.post(f"{url}/v1/completions", json={**body, "prompt": prompt}, timeout=600)
        .raise_for_status()
        .json()["choices"][0]["text"]
        for prompt in PROMPTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    parser.add_argument("--tokens", type=int, default=32, help="per answer")
    options = parser.parse_args()
    with cortex(options.model.resolve(), options.threads) as server:
        ours = answers(server.url, options.tokens)
    with llama_server(ensure_llama_server(), options.model.resolve(), options.threads) as server:
        theirs = answers(server.url, options.tokens)
    for prompt, mine, other in zip(PROMPTS, ours, theirs, strict=True):
        if mine != other:
            print(f"differs after {prompt!r}:\n  cortex        {mine!r}\n  llama-server  {other!r}")
    same = sum(mine == other for mine, other in zip(ours, theirs, strict=True))
    print(f"{same} of {len(PROMPTS)} answers are the same")


if __name__ == "__main__":
    main()
