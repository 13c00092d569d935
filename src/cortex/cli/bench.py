"""`cortex bench`: run a workload against any OpenAI-compatible server and print what was measured."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, get_args

import typer

from cortex.bench.workload import Workload, WorkloadKind
from cortex.cli.fleet import DEFAULT_URL
from cortex.cli.output import print_error, print_json, print_line, print_table
from cortex.errors import ConfigError

__all__ = ["register"]

_KINDS = ", ".join(get_args(WorkloadKind))


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="More")(bench)


def bench(  # noqa: PLR0917 - each is an option of the command
    url: Annotated[str, typer.Option("--url", envvar="CORTEX_URL", help="Server to measure.")] = DEFAULT_URL,
    model: Annotated[str, typer.Option("--model", "-m", help="Model id; empty = the server's default model.")] = "",
    workload: Annotated[str, typer.Option("--workload", "-w", help=f"One of {_KINDS}.")] = "decode",
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Clients, streams or conversations at once.")
    ] = 4,
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, help="Requests in total.")] = 16,
    prompt_words: Annotated[
        int, typer.Option("--prompt-words", min=1, help="Words per prompt, or in the shared prefix.")
    ] = 24,
    output_tokens: Annotated[int, typer.Option("--output-tokens", min=1, help="Most tokens per answer.")] = 128,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Turns per conversation.")] = 4,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 = greedy.")
    ] = 0.8,
    ignore_eos: Annotated[
        bool, typer.Option(help="Ask for answers of full length, where the server supports it.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="Prompts are made from this number.")] = 1,
    key: Annotated[str | None, typer.Option("--key", envvar="CORTEX_API_KEY", help="API key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a server under load: time to first token, time between tokens, tokens per second, cached tokens."""
    from cortex.bench.client import run_workload
    from cortex.bench.report import summary_table
    from cortex.bench.statistics import summarise
    from cortex.operator.client import server_url

    if workload not in get_args(WorkloadKind):
        raise ConfigError(f"--workload {workload!r} is unknown; it is one of {_KINDS}")
    load = Workload(
        kind=workload,  # type: ignore[arg-type]  # checked above
        model=model,
        concurrency=concurrency,
        requests=requests,
        prompt_words=prompt_words,
        output_tokens=output_tokens,
        turns=turns,
        temperature=temperature,
        ignore_eos=ignore_eos,
        seed=seed,
    )
    server = server_url(url)
    outcomes = asyncio.run(run_workload(server, load, key=key))
    summaries = summarise(outcomes)
    if as_json:
        print_json({"workload": load, "groups": summaries})
    else:
        print_line(f"{workload} on {server}; times in ms\n")
        print_table(summary_table(summaries))
    failures = Counter(outcome.error for outcome in outcomes if outcome.error)
    for error, times in failures.items():
        print_error(f"{times} of {len(outcomes)} requests failed: {error}")
    if failures:
        raise typer.Exit(1)
