"""Our protobuf table of etcd's API, and that the released etcd3 works with it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from kube2etcd.etcd import wire
from kube2etcd.etcd.wire import rpc

MESSAGES = dict(wire.rows(wire.MESSAGES))
ENUMS = dict(wire.rows(wire.ENUMS))
SERVICES = dict(wire.rows(wire.SERVICES))


def test_every_line_of_the_tables_is_made_into_something() -> None:
    assert len(MESSAGES) == 32
    assert len(SERVICES) == 6
    for name, fields in MESSAGES.items():
        descriptor = getattr(rpc, name).DESCRIPTOR
        assert {field.name: field.number for field in descriptor.fields} == {
            left: int(right.partition(":")[0]) for left, right in fields
        }
    for name, values in ENUMS.items():
        home = getattr(rpc, name.partition(".")[0])
        assert {value: str(getattr(home, value)) for value, _ in values} == dict(values)


def test_bytes_on_the_wire_are_those_of_etcd() -> None:
    # written by hand from the protobuf encoding: field 2 of TxnRequest holds a RequestOp,
    # whose field 2 holds a PutRequest, whose fields 1 and 2 are key and value
    request = rpc.TxnRequest()
    put = request.success.add().request_put
    put.key, put.value = b"k", b"v"
    assert request.SerializeToString() == b"\x12\x08\x12\x06\x0a\x01k\x12\x01v"
    # field 64 of Compare has a tag of two bytes
    assert rpc.Compare(range_end=b"z").SerializeToString() == b"\x82\x04\x01z"
    # events of a watch are field 11
    answer = rpc.WatchResponse.FromString(b"\x5a\x09\x08\x01\x12\x05\x0a\x01k\x18\x07")
    assert (answer.events[0].type, answer.events[0].kv.key, answer.events[0].kv.mod_revision) == (1, b"k", 7)


def test_stub_has_every_method_with_its_path() -> None:
    made: dict[str, str] = {}

    class Channel:
        def __getattr__(self, kind: str) -> Any:
            def make(path: str, **_: Any) -> object:
                made[path] = kind
                return object()

            return make

    for service, methods in SERVICES.items():
        stub = getattr(rpc, f"{service}Stub")(Channel())
        assert all(hasattr(stub, method) for method, _ in methods)
    assert made["/etcdserverpb.KV/Txn"] == "unary_unary"
    assert made["/etcdserverpb.Watch/Watch"] == "stream_stream"
    assert made["/etcdserverpb.Maintenance/Status"] == "unary_unary"
    assert len(made) == sum(len(methods) for methods in SERVICES.values())


def _python(*lines: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_released_etcd3_finds_every_name_in_our_module() -> None:
    version = _python(
        "import sys",
        "from kube2etcd.etcd import wire",
        "wire.install()",
        "import etcd3, etcd3.etcdrpc",
        "assert etcd3.etcdrpc is wire.rpc, etcd3.etcdrpc",
        "assert 'etcd3.etcdrpc.rpc_pb2' not in sys.modules",
        "print(etcd3.__version__)",
    )
    assert version == "0.12.0"


def test_importing_the_table_leaves_grpc_and_the_default_pool_alone() -> None:
    found = _python(
        "import sys, kube2etcd.etcd, kube2etcd.etcd.wire",
        "from google.protobuf import descriptor_pool",
        "print([name for name in ('grpc', 'etcd3') if name in sys.modules])",
        "try: descriptor_pool.Default().FindMessageTypeByName('etcdserverpb.TxnRequest')",
        "except KeyError: print('absent')",
    )
    assert found == "[]\nabsent"
