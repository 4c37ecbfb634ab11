"""Alerts and dashboard: right in their language, about metrics that there are, and each with a word on what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, Manifests
from tests.deploy.series import ROOT, series

ALERTS = CHART / "files" / "alerts.yaml"

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")

_MENTION = re.compile(r"\bdraftpool_\w+")


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@needs_promtool
def test_promtool_takes_the_rules_as_they_are_rendered(production: Manifests, tmp_path: Path) -> None:
    (rule_object,) = production.of_kind("PrometheusRule")
    rendered = tmp_path / "rules.yaml"
    rendered.write_text(yaml.safe_dump(rule_object["spec"]))
    subprocess.run([str(PROMTOOL), "check", "rules", "--lint-fatal", str(rendered)], check=True)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    tests = Path(__file__).parent / "alerts_test.yaml"
    subprocess.run([str(PROMTOOL), "test", "rules", str(tests)], check=True)


def test_every_alert_has_a_case_in_which_it_fires_and_is_quiet_where_all_is_well() -> None:
    *troubles, health = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())["tests"]
    fired = {check["alertname"] for case in troubles for check in case["alert_rule_test"] if check["exp_alerts"]}
    quiet = {check["alertname"] for check in health["alert_rule_test"] if not check["exp_alerts"]}
    assert fired == quiet == {rule["alert"] for rule in _rules()}


def test_the_cases_are_about_metrics_that_there_are() -> None:
    """A case with a series that nobody writes would prove nothing."""
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())["tests"]
    named = {entry["series"].partition("{")[0] for case in cases for entry in case["input_series"]}
    assert named - {"up"} <= series()


def test_the_rules_are_installed_as_they_are_tested(production: Manifests) -> None:
    (rule_object,) = production.of_kind("PrometheusRule")
    assert rule_object["spec"] == yaml.safe_load(ALERTS.read_text())


def test_alerts_are_about_metrics_that_there_are() -> None:
    mentioned = {name for rule in _rules() for name in _MENTION.findall(rule["expr"])}
    assert len(mentioned) > 5
    assert mentioned <= series()


def _dashboard_expressions(manifests: Manifests) -> list[str]:
    (config_map,) = (found for found in manifests.of_kind("ConfigMap") if "dashboard" in found["metadata"]["name"])
    dashboard = json.loads(config_map["data"]["draftpool.json"])
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_is_about_metrics_that_there_are(production: Manifests) -> None:
    mentioned = {name for expression in _dashboard_expressions(production) for name in _MENTION.findall(expression)}
    assert len(mentioned) > 5
    assert mentioned <= series()


@needs_promtool
def test_prometheus_understands_what_the_dashboard_asks(production: Manifests, tmp_path: Path) -> None:
    """promtool reads rules; so each question is made one, with Grafana's interval filled in."""
    asked = (expression.replace("$__rate_interval", "1m") for expression in _dashboard_expressions(production))
    rules = [{"record": f"question:{number}", "expr": expression} for number, expression in enumerate(asked)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run([str(PROMTOOL), "check", "rules", str(path)], check=True)


def test_the_runbook_has_a_word_on_every_alert() -> None:
    runbook = (ROOT / "docs" / "kubernetes.md").read_text()
    assert [rule["alert"] for rule in _rules() if f"`{rule['alert']}`" not in runbook] == []
