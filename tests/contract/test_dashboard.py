"""The dashboard and the proxy share names, never code. The proxy exposes every name that the dashboard asks for."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from dyno_proxy.metrics.metrics import Metrics

GRAFANA: Final = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards" / "dyno.json").read_text(encoding="utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: Final = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

# What Prometheus calls the series of one family.
SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def exposed_names() -> set[str]:
    return {family.name + suffix for family in Metrics("0").registry.collect() for suffix in SUFFIXES[family.type]}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_metric_asked_for_is_exposed(panel: dict[str, Any]) -> None:
    """`/metrics` shows each name in a panel's queries."""
    asked = {name for target in panel["targets"] for name in re.findall(r"\b(?:dyno|gen_ai)_\w+", target["expr"])}
    assert asked
    assert asked <= exposed_names()


@pytest.mark.parametrize("name", ["endpoint", "model"])
def test_variables_come_from_exposed_metrics(name: str) -> None:
    """The lists of endpoints and models are read from names that `/metrics` shows."""
    (asked,) = re.findall(r"\b(?:dyno|gen_ai)_\w+", VARIABLES[name]["query"]["query"])
    assert asked in exposed_names()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_can_be_read(panel: dict[str, Any]) -> None:
    """A panel has a description, a unit, and names for its lines. It asks the data source that the reader chose."""
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert set(re.findall(r"\$(?!__)(\w+)", target["expr"])) <= set(VARIABLES)


def test_panels_neither_overlap_nor_share_an_id() -> None:
    """Grafana's grid is 24 wide. No two panels overlap, because one would hide the other."""
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _y in cells)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_provisioned_data_source_is_the_preset_one() -> None:
    """The dashboard opens on the data source that deploy/ provisions, which knows how far apart the scrapes are."""
    source = (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    scrape = (GRAFANA.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    assert f"uid: {VARIABLES['datasource']['current']['value']}\n" in source
    (interval,) = re.findall(r"timeInterval: (\w+)", source)
    assert f"scrape_interval: {interval}\n" in scrape
