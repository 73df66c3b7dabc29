"""The status page: content, access, and that tenants' names are never markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from kube2etcd.errors import SettingsError
from kube2etcd.inspect.explain import Explanation
from kube2etcd.inspect.live import Problem, View
from kube2etcd.inspect.page import PAGE_SIZE, application, plot, status_page
from kube2etcd.metrics import Status
from kube2etcd.settings import HostPort
from skydns_compat.records import Text
from tests.inspect.viewed import HOSTILE, view


def explain(name: str, rtype: str) -> list[Explanation]:
    if name == "busy":
        raise TimeoutError
    if ".." in name:
        raise ValueError(f"{name} is no name")
    return [Explanation(name, rtype, "NOERROR", ())]


class Site:
    def __init__(self, look: Callable[[], View]) -> None:
        self.status = Status()
        self.status.report(True, [])
        self.views = 0

        def counted() -> View:
            self.views += 1
            return look()

        self._client = Client(application(counted, self.status, explain))

    def get(
        self, path: str = "/", query: str = "", method: str = "GET", host: str = "localhost:8082"
    ) -> TestResponse:
        return self._client.open(path, query_string=query, method=method, headers={"Host": host})

    def json(self, path: str, query: str = "") -> Any:
        return self.get(f"/api/{path}", query).json


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def site() -> Site:
    return Site(view)


def test_names_of_tenants_are_escaped(site: Site) -> None:
    page = site.get().text
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert len([tag for tag, _ in tags.found if tag == "script"]) == 1
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3
    assert "49" not in re.sub(r"[^{}0-9]", "", page[page.index("&lt;img") : page.index("&lt;img") + 60])
    assert site.json("problems")["problems"][1]["subject"].endswith(HOSTILE)


def test_search_is_escaped(site: Site) -> None:
    page = site.get(query="q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&zone=%22%3E").text
    assert "<script>alert" not in page
    assert 'value="&#34;&gt;&lt;script&gt;' in page


def test_content_security_policy_allows_only_our_style_and_script(site: Site) -> None:
    first, second = site.get(), site.get()
    policy = first.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce is not None
    assert f'<script nonce="{nonce[1]}">' in first.text
    assert nonce[1] not in second.text
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r'(?:src|href)="(?!#|\?|/#)', first.text), "external asset"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8082", 200),
        ("127.0.0.1:8082", 200),
        ("[::1]:8082", 200),
        ("10.1.2.3", 200),
        ("evil.example", 403),
        ("evil.example:8082", 403),
        ("localhost.evil.example:8082", 403),
        ("", 403),
    ],
)
def test_host_must_be_an_address_or_localhost(site: Site, host: str, status: int) -> None:
    assert site.get(host=host).status_code == status
    assert (site.views == 1) == (status == 200)


def test_methods_and_paths(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = site.get(method=method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    head = site.get(method="HEAD")
    assert (head.text, int(head.headers["Content-Length"]) > 1000) == ("", True)
    assert site.get("/metrics").status_code == 404


def test_records_are_typed_and_sorted(site: Site) -> None:
    found = site.json("records")
    records = {one["name"]: (one["type"], one["data"]) for one in found["records"]}
    assert records["web-00001.team-1.svc.cluster.local."] == ("A", "10.0.0.1")
    assert records["svc.cluster.local."] == ("NODATA", "-")
    assert records["v6.shop.svc.cluster.local."] == ("AAAA", "fd00::1")
    assert records["_http._tcp.v6.shop.svc.cluster.local."] == ("SRV", "0 80 v6.shop.svc.cluster.local.")
    assert records["ext.shop.svc.cluster.local."] == ("CNAME", "db.example.org.")
    assert records["1.0.0.10.in-addr.arpa."] == ("PTR", "web-00001.team-1.svc.cluster.local.")
    assert records["mail.example.com."] == ("MX", "0 mx.example.org.")
    assert records["broken.example.com."] == ("NODATA", "-")
    assert records["txt.example.com."] == ("TXT", str(Text(HOSTILE)))
    names = [one["name"].split(".")[::-1] for one in found["records"]]
    assert names == sorted(names)
    assert len([one for one in found["records"] if one["name"].startswith("web-00001")]) == 1


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("q=WEB-00001.team-1.svc.cluster.local.", 2),
        ("q=services/team-1/", 3),
        ("q=10.0.0.7&type=a", 1),
        ("zone=example.com", 3),
        ("zone=example.com&type=MX", 1),
        ("q=nothing", 0),
    ],
)
def test_search(site: Site, query: str, total: int) -> None:
    assert site.json("records", query)["total"] == total
    assert f"<p>{total} records</p>" in site.get(query=query).text


def test_large_cluster_is_paged_on_the_server() -> None:
    site = Site(lambda: view(50_000))
    first, last = (site.json("records", f"page={page}") for page in (1, 10**8))
    assert (len(first["records"]), first["pages"]) == (PAGE_SIZE, 501)
    assert last["page"] == 501
    page = site.get(query="q=web&page=7").text
    assert len(page) < 120_000
    assert 'href="?q=web&amp;page=8#records"' in page
    assert site.views == 1, "one view for all requests"


@pytest.mark.parametrize(
    "query", ["page=-1", "page=x", "page=%00", "page=99999999999", "&&=", "q=" + "x" * 5000]
)
def test_invalid_parameters_are_ignored(site: Site, query: str) -> None:
    assert site.json("records", query)["page"] == 1


def test_busy_loop_serves_an_older_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.inspect.page.FRESH", -1000.0)
    monkeypatch.setattr("kube2etcd.inspect.page.PAUSE", 0)
    views: list[View] = []

    def look() -> View:
        if not views:
            raise TimeoutError
        return views.pop()

    site = Site(look)
    assert site.get().status_code == 503
    views.append(view())
    assert [site.get().status_code for _ in range(2)] == [200, 200], "the second is the older view"


def test_reasons_and_leader_are_shown() -> None:
    problems = tuple(Problem("left out", f"services/a/b{number}", "invalid") for number in range(250))
    site = Site(
        lambda: replace(
            view(), leader="standing by: dns-1 writes", trouble="etcd is unavailable", problems=problems
        )
    )
    site.status.report(False, ["services are not listed yet"])
    page = site.get(query="problems=2").text
    for text in ("✗ not ready", "standing by: dns-1", "services are not listed yet", "etcd is unavailable"):
        assert text in page
    assert "page 2 of 3" in page
    shown = site.json("status")
    assert (shown["ready"], shown["reasons"]) == (False, ["services are not listed yet"])
    assert shown["leader"] == "standing by: dns-1 writes"
    assert " ".join(sorted(shown)) == (
        "counts heartbeat_age leader ready reasons sources taken trouble version zones"
    )
    assert page.count("standing by") == 1, "the template does not repeat it"


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("name=web.shop&type=a", 200, '[{"name": "web.shop", "type": "a", "rcode": "NOERROR", '),
        ("name=<b>", 200, '[{"name": "<b>", "type": "", '),
        ("", 200, '[{"name": "", "type": "", '),
        ("name=" + "a" * 1000, 200, f'[{{"name": "{"a" * 300}", "type": "", '),
        ("name=a..b", 400, "a..b is no name"),
        ("name=busy", 503, "try again"),
    ],
)
def test_explain(site: Site, query: str, status: int, text: str) -> None:
    answer = site.get("/api/explain", query)
    assert (answer.status_code, text in answer.text) == (status, True)
    assert answer.headers["Content-Type"].startswith("application/json" if status == 200 else "text/plain")
    assert site.views == 0
    assert site.get("/api/explain", query, host="evil.example").status_code == 403


def test_plot_has_a_dot_per_change() -> None:
    drawn = plot([(1000.0, 0.004, "services"), (1500.0, 0.02, "pods"), (10.0, 1.0, "old")], 1600.0)
    assert (len(drawn["dots"]), drawn["median"]) == (2, 0.02)
    (x1, y1, first), (x2, y2, second) = drawn["dots"]
    assert (first, second) == ("services: 4.0 ms", "pods: 20.0 ms")
    assert 0 < x1 < x2 < drawn["width"]
    assert drawn["height"] > y1 > y2 > 0
    assert plot([], 0)["dots"] == []


def test_default_listener_is_loopback() -> None:
    page = status_page(HostPort("127.0.0.1", 0), view, Status(), explain).start()
    try:
        with pytest.raises(SettingsError, match=f"--listen-page 127.0.0.1:{page.port}: another program"):
            status_page(HostPort("127.0.0.1", page.port), view, Status(), explain)
    finally:
        page.stop()
