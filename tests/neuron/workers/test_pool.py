from __future__ import annotations

import logging

import pytest

from cortex.neuron.workers.pool import worker_command


def test_a_workers_full_log_is_asked_for_when_somebody_reads_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cortex.neuron.workers.pool")
    assert "--verbose" not in worker_command("cpu0", 2)(7)
    caplog.set_level(logging.DEBUG, "cortex.neuron.workers.pool")
    assert "--verbose" in worker_command("cpu0", 2)(7)
