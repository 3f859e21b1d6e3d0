"""deploy/ with a real Prometheus: it scrapes a proxy under load and answers the dashboard's queries."""

import asyncio
import json
import math
import re
import shutil
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from rigs.programs import running
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import until

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
SCRAPE_CONFIG: Final = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARD: Final = json.loads((DEPLOY / "grafana" / "dashboards" / "dyno.json").read_text(encoding="utf-8"))

ENDPOINTS: Final = ("metis", "sophia")
# As Grafana replaces them: several chosen values are joined by |, "All" is the variable's allValue,
# and $__rate_interval is four scrape intervals.
VARIABLES: Final = {"$endpoint": "metis|sophia", "$model": ".*", "$__rate_interval": "4s"}
DATA_LIMIT_S: Final = 60.0

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus isn't installed (Debian: apt-get install prometheus)",
)


@dataclass(frozen=True, slots=True)
class Query:
    panel: str
    expression: str
    legend: str


def dashboard_queries() -> list[Query]:
    return [
        Query(panel["title"], substituted(target["expr"]), target["legendFormat"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def substituted(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable that the test doesn't know: {expression}"
    return expression


@dataclass(frozen=True, slots=True)
class Stack:
    proxy: str
    prometheus: str
    spans: RunningProxy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two simulated endpoints that are fifty times as fast, a proxy, and a Prometheus with deploy's configuration."""
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as programs:
        simulate = [
            sys.executable,
            "-m",
            "dyno",
            "simulate",
            "--time-scale",
            "0.02",
            "--profile",
            "metis",
            "--profile",
            "sophia",
        ]
        simulated = programs.enter_context(
            running(simulate, r"^dyno simulate: (\w+) on (\S+)$", folder / "simulate.log", lines=2)
        )
        proxy = programs.enter_context(running_proxy(folder, {m[1]: m[2] for m in simulated}))

        scrape = SCRAPE_CONFIG.read_text(encoding="utf-8")
        for deployed, here in (
            ("127.0.0.1:8080", proxy.url.removeprefix("http://")),
            ("scrape_interval: 5s", "scrape_interval: 1s"),
            ("scrape_timeout: 4s", "scrape_timeout: 1s"),
        ):
            assert scrape.count(deployed) >= 1
            scrape = scrape.replace(deployed, here)
        (folder / "prometheus.yml").write_text(scrape, encoding="utf-8")
        prometheus = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
        prometheus += [f"--storage.tsdb.path={folder / 'tsdb'}", "--web.listen-address=127.0.0.1:0"]
        prometheus += ["--enable-feature=exemplar-storage"]
        (address,) = programs.enter_context(
            running(prometheus, r'msg="Listening on" address=(127\.0\.0\.1:\d+)', folder / "prometheus.log")
        )
        yield Stack(proxy.url, f"http://{address[1]}", proxy)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_every_dashboard_query_gives_data(stack: Stack, session: aiohttp.ClientSession) -> None:
    """Under load, every query of the dashboard returns numbers.

    A query by endpoint returns numbers for both endpoints.
    """
    waiting = dict.fromkeys(dashboard_queries(), "no answer yet")
    assert len(waiting) >= 20
    deadline = time.monotonic() + DATA_LIMIT_S
    async with asyncio.TaskGroup() as tasks:
        load = [tasks.create_task(ask_until_cancelled(session, stack.proxy, name)) for name in ENDPOINTS]
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(1)  # one scrape later
            results = {query: await lacking(session, stack.prometheus, query) for query in waiting}
            waiting = {query: why for query, why in results.items() if why is not None}
        for task in load:
            task.cancel()
    assert not waiting, "\n".join(f"{query.panel}: {query.expression}: {why}" for query, why in waiting.items())


async def test_variables_list_endpoints_and_models(stack: Stack, session: aiohttp.ClientSession) -> None:
    """The dashboard's choices come from the proxy's own labels: both endpoints, and the models that were asked for."""
    for name in ENDPOINTS:
        await ask(session, stack.proxy, name)
    found: dict[str, list[str]] = {}
    deadline = time.monotonic() + DATA_LIMIT_S
    while time.monotonic() < deadline and not all(found.get(name) for name in ("endpoint", "model")):
        await asyncio.sleep(0.5)
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert asked is not None
                url = f"{stack.prometheus}/api/v1/label/{asked[2]}/values"
                found[variable["name"]] = await data(session, url, {"match[]": substituted(asked[1])})
    assert set(found) == {"endpoint", "model"}
    assert set(found["endpoint"]) == set(ENDPOINTS)
    assert "a-model" in found["model"]


def test_configuration_passes_promtool() -> None:
    """Prometheus' own checker accepts deploy's configuration."""
    checked = subprocess.run(
        ["promtool", "check", "config", SCRAPE_CONFIG], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_exemplars_lead_to_spans(stack: Stack, session: aiohttp.ClientSession) -> None:
    """Prometheus asks for OpenMetrics by default, and the exemplars that it stores name traces that are on disk."""
    found: set[tuple[str, str]] = set()
    deadline = time.monotonic() + DATA_LIMIT_S
    while time.monotonic() < deadline and not found:
        await ask(session, stack.proxy, "metis")
        await asyncio.sleep(0.5)
        asked = {"query": "dyno_ttft_seconds_bucket", "start": str(time.time() - 60), "end": str(time.time() + 1)}
        for series in await data(session, f"{stack.prometheus}/api/v1/query_exemplars", asked):
            assert series["seriesLabels"]["endpoint"] in ENDPOINTS
            found |= {(each["labels"]["trace_id"], each["labels"]["span_id"]) for each in series["exemplars"]}
    assert found
    rows = await asyncio.to_thread(stack.spans.read_rows)
    assert found <= {(row["trace_id"], row["span_id"]) for row in rows}


async def test_metrics_pass_promtool(stack: Stack, session: aiohttp.ClientSession) -> None:
    """Prometheus' own linter finds nothing in what the proxy exposes after a request."""
    await ask(session, stack.proxy, "metis")
    await check_metrics(session, stack.proxy)


async def test_metrics_of_workers_pass_promtool(stack: Stack, session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Prometheus' own linter finds nothing in the sums that one of several workers exposes."""
    upstream = {"metis": f"{stack.proxy}/metis/v1"}
    async with in_thread(running_proxy(tmp_path, upstream, environment={"DYNO_PROXY_WORKERS": "2"})) as proxy:
        await ask(session, proxy.url, "metis")
        await until(lambda: asyncio.to_thread(lambda: proxy.started() == 1), "the worker's figures")
        await check_metrics(session, proxy.url)


async def check_metrics(session: aiohttp.ClientSession, proxy: str) -> None:
    async with session.get(f"{proxy}/metrics") as response:
        exposed = await response.read()
    linter = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await linter.communicate(exposed)
    assert linter.returncode == 0, said.decode()


async def ask_until_cancelled(session: aiohttp.ClientSession, proxy: str, endpoint: str) -> None:
    while True:
        await ask(session, proxy, endpoint)


async def ask(session: aiohttp.ClientSession, proxy: str, endpoint: str) -> None:
    body = {"model": "a-model", "stream": True, "stream_options": {"include_usage": True}}
    body["messages"] = [{"role": "user", "content": "Why is the sky blue?"}]
    async with session.post(f"{proxy}/{endpoint}/v1/chat/completions", json=body) as response:
        assert response.status == 200
        await response.read()


async def lacking(session: aiohttp.ClientSession, prometheus: str, query: Query) -> str | None:
    """Why a query's answer is wrong; None if it is right.

    The query is sent as Grafana does it: over a range, in steps.
    """
    now = time.time()
    asked = {"query": query.expression, "start": str(now - 15), "end": str(now), "step": "1"}
    series = (await data(session, f"{prometheus}/api/v1/query_range", asked))["result"]
    with_numbers = [
        one["metric"] for one in series if any(math.isfinite(float(value)) for _time, value in one["values"])
    ]
    if not with_numbers:
        return f"{len(series)} series, none with a number"
    labels = re.findall(r"{{(\w+)}}", query.legend)
    if unknown := {label for label in labels if any(label not in metric for metric in with_numbers)}:
        return f"its legend names {unknown}, which the answer lacks"
    if "endpoint" in labels and (missing := set(ENDPOINTS) - {metric["endpoint"] for metric in with_numbers}):
        return f"nothing for {missing}"
    return None


async def data(session: aiohttp.ClientSession, url: str, parameters: dict[str, str]) -> Any:
    async with session.get(url, params=parameters) as response:
        answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]
