"""The dashboard and the alerts speak only of metrics that a run tells."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml

OPS = Path(__file__).parent.parent.parent / "ops"
METRICS_SOURCE = Path(__file__).parent.parent.parent / "pipeline/cluster/metrics.py"
# Ray's own, seen on its exporter.
OF_RAY = {"ray_object_store_memory"}


def told_metrics() -> set[str]:
    names = set(re.findall(r'"(nightscribe_\w+)"', METRICS_SOURCE.read_text()))
    return {f"ray_{name}" for name in names}


def metrics_in(expression: str) -> set[str]:
    return {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bray_\w+", expression)
    }


def rules() -> list[dict]:
    return yaml.safe_load((OPS / "prometheus/rules.yaml").read_text())["groups"][0]["rules"]


def panels() -> list[dict]:
    return json.loads((OPS / "grafana/nightscribe.json").read_text())["panels"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_speaks_of_metrics_that_exist(rule):
    promql_parser.parse(rule["expr"])
    recorded = {other["record"] for other in rules() if "record" in other}
    assert metrics_in(rule["expr"]) <= told_metrics() | OF_RAY
    assert set(re.findall(r"\bnightscribe:\w+", rule["expr"])) <= recorded


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_shows_metrics_that_exist(panel):
    for target in panel["targets"]:
        promql_parser.parse(target["expr"])
        shown = metrics_in(target["expr"])
        assert shown
        assert shown <= told_metrics() | OF_RAY


def test_every_metric_has_a_panel():
    shown = {
        name
        for panel in panels()
        for target in panel["targets"]
        for name in metrics_in(target["expr"])
    }
    assert told_metrics() <= shown


def test_panels_do_not_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_leads_to_a_heading_of_the_operating_page():
    page = (OPS.parent / "docs/operating.md").read_text()
    for rule in rules():
        if "alert" in rule:
            heading = re.search(r'"(.+)"', rule["annotations"]["runbook"]).group(1)
            assert f"## {heading}\n" in page
