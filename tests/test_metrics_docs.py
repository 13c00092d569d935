"""Names of metrics in documents and dashboards are those that the code registers."""

from __future__ import annotations

import json
import re

import pytest

from tests.docs.blocks import ROOT
from tests.docs.generators import generator

GRAFANA = ROOT / "contrib" / "grafana"
_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def families() -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for name, _, names, _ in [
        *generator("metrics_page").gateway_families(),
        *generator("metrics_page").neuron_families(),
    ]:
        labels.setdefault(name, set()).update(names)
    return labels


@pytest.mark.parametrize("name", ["cortex.json", "cortex.rules.yml"])
def test_expressions_use_existing_names(name: str) -> None:
    used = {_SUFFIX.sub("", word) for word in re.findall(r"\bcortex_[a-z_]+", (GRAFANA / name).read_text())}
    assert used
    assert used <= set(families())


def test_the_dashboard_groups_by_existing_labels() -> None:
    dashboard = json.loads((GRAFANA / "cortex.json").read_text())
    known = families()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = {_SUFFIX.sub("", word) for word in re.findall(r"\bcortex_[a-z_]+", target["expr"])}
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                wanted = {label.strip() for label in group.split(",")} - {"le"}
                assert wanted <= set.intersection(*(known[name] for name in names)), panel["title"]


@pytest.mark.parametrize(
    "name",
    [
        "cortex_requests_total",
        "cortex_request_duration_seconds",
        "cortex_time_to_first_token_seconds",
        "cortex_inter_token_seconds",
        "cortex_tokens_per_second",
        "cortex_tokens_total",
        "cortex_cold_starts_total",
        "cortex_load_seconds",
        "cortex_evictions_total",
        "cortex_model_in_flight",
        "cortex_model_queue_depth",
        "cortex_rejections_total",
        "cortex_failovers_total",
        "cortex_neuron_up",
        "cortex_device_memory_bytes",
    ],
)
def test_the_gateway_has_the_names_that_dashboards_of_peers_use(name: str) -> None:
    assert name in {family[0] for family in generator("metrics_page").gateway_families()}
