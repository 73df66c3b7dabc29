"""Our protobuf table of etcd's API, also as used by the released etcd3."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from kube2etcd.etcd import wire
from kube2etcd.etcd.wire import rpc

SERVICES = dict(wire.rows(wire.SERVICES))


def test_messages_are_encoded_as_etcd_does() -> None:
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
    class Channel:
        def __getattr__(self, kind: str) -> Any:
            return lambda path, **_: (path, kind)

    for service, methods in SERVICES.items():
        stub = vars(getattr(rpc, f"{service}Stub")(Channel()))
        assert [(name, path) for name, (path, _) in stub.items()] == [
            (name, f"/etcdserverpb.{service}/{name}") for name, _ in methods
        ]
    assert vars(rpc.KVStub(Channel()))["Txn"][1] == "unary_unary"
    assert vars(rpc.WatchStub(Channel()))["Watch"][1] == "stream_stream"


def test_released_etcd3_uses_our_module() -> None:
    """Until installed, neither grpc nor the default descriptor pool is touched."""
    script = """
import sys, kube2etcd.etcd
from kube2etcd.etcd import wire
from google.protobuf import descriptor_pool
assert not {"grpc", "etcd3"} & sys.modules.keys()
try: descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.TxnRequest")
except KeyError: pass
else: sys.exit("registered")
wire.install()
import etcd3, etcd3.etcdrpc
assert etcd3.etcdrpc is wire.rpc, etcd3.etcdrpc
assert "etcd3.etcdrpc.rpc_pb2" not in sys.modules
assert etcd3.__version__ == "0.12.0"
etcd3.client().close()
"""
    command = [sys.executable, "-W", "error", "-c", script]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
