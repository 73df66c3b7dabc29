"""The reader model against a real CoreDNS: the table of facts, and random keys."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skydns_compat.names import Name
from tests.skydns_compat.reader_cases import CASES, FOLDER, ZONE, Case
from tests.stack.harness import Binaries, CoreDns, Etcd
from tests.stack.modelled import ask, plain_answer

CLUSTER = Name.parse(ZONE)

COREFILE = """
cluster.local:{{port}} {{
    bind 127.0.0.1
    errors
    etcd cluster.local {{
        path /skydns
        endpoint {url}
    }}
}}
"""


@dataclass
class Pair:
    """An etcd and the CoreDNS that reads it."""

    etcd: Etcd
    coredns: CoreDns
    held: Mapping[str, str] = field(default_factory=dict)

    def hold(self, keys: Mapping[str, str]) -> None:
        """Make etcd hold these keys and no others."""
        self.etcd.put_all(keys, without=self.held.keys() - keys.keys())
        self.held = keys


@pytest.fixture(scope="module")
def pair(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("reader")
    with (
        Etcd(directory, binaries) as etcd,
        CoreDns(directory, binaries, COREFILE.format(url=etcd.url)) as coredns,
    ):
        yield Pair(etcd, coredns)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fact_is_true_of_the_server(pair: Pair, case: Case) -> None:
    pair.hold(case.etcd())
    real = ask(pair.coredns, case.question, case.qtype)
    assert real == plain_answer(case.etcd(), CLUSTER, case.question, case.qtype)
    assert real.rcode == case.rcode


# Few labels, so that names collide: parents, children, targets, wildcards, the apex and its special keys.
_LABELS = st.sampled_from(["a", "b", "_p", "dns", "apex", "ns", "X", "c.d"])
_KEYS = st.lists(_LABELS, max_size=4).map(lambda labels: "/".join([FOLDER, *labels]))
_HOSTS = st.one_of(
    st.sampled_from(
        ["", "10.0.0.1", "10.0.0.2", "fd00::1", "fd00:0::1", "ext.example", "010.0.0.1", "cluster.local"]
    ),
    st.lists(st.sampled_from(["a", "b", "B", "_p"]), min_size=1, max_size=3).map(
        lambda labels: ".".join([*labels, "cluster.local"])
    ),
)
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 80, 65535, 65536, 65537])
_MESSAGES = st.fixed_dictionaries(
    {"host": _HOSTS},
    optional={
        "port": _NUMBERS,
        "priority": _NUMBERS,
        "weight": st.sampled_from([0, 1, 3, 100, 5000]),
        "text": st.sampled_from(["", "t", 'q"\\u']) | st.integers(250, 260).map(lambda length: "x" * length),
        "mail": st.booleans(),
        "ttl": st.sampled_from([0, 1, 5, 2147483647]),
        "targetstrip": st.integers(-1, 7),
        "group": st.sampled_from(["", "g", "h"]),
    },
).map(json.dumps)
_VALUES = st.one_of(*[_MESSAGES] * 4, st.sampled_from(["{}", "null", "[]", '{"ttl":-1}']))
_NAMES = st.lists(st.sampled_from(["a", "b", "_p", "dns", "apex", "ns", "*", "any", "A"]), max_size=4).map(
    lambda labels: ".".join([*labels, ZONE])
)
_TYPES = st.sampled_from(["A", "AAAA", "CNAME", "SRV", "PTR", "TXT", "MX", "NS", "SOA", "CAA"])


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(_KEYS, _VALUES, max_size=8), st.lists(st.tuples(_NAMES, _TYPES), min_size=6, max_size=12)
)
def test_any_keys(pair: Pair, keys: dict[str, str], questions: list[tuple[str, str]]) -> None:
    pair.hold(keys)
    for name, qtype in questions:
        real = ask(pair.coredns, name, qtype)
        assert real == plain_answer(keys, CLUSTER, name, qtype), (keys, name, qtype)
