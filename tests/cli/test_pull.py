"""`cortex pull`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import run


def test_a_pull_that_fails_draws_nothing_into_a_pipe(config: Path) -> None:
    refused = run("pull", "org/repo", "-c", config)
    assert refused.exit_code == 3
    assert refused.stderr == "cortex: org/repo is not on this machine and neuron.offline is set\n"
