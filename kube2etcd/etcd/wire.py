"""The part of etcd's v3 API that we and etcd3's constructor use: message classes and stubs made at import.

Current protobuf refuses to load the generated code of the released etcd3.  The wire format needs only field
numbers, field types and method paths; the tables below have them, and ``install()`` gives etcd3 the result in
place of its own module.  This works with every protobuf since 4.25, and a separate descriptor pool avoids
clashes with other packages that register etcd's messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Messages are made at run time, so no type checker can know their fields.
Message = Any

# Names of messages and enums are arbitrary; service names are on the wire.
_PACKAGE = "etcdserverpb"

# Message.Name: NAME=number ...
ENUMS = """
Compare.CompareResult: EQUAL=0 GREATER=1 LESS=2 NOT_EQUAL=3
Compare.CompareTarget: VERSION=0 CREATE=1 MOD=2 VALUE=3 LEASE=4
Event.EventType: PUT=0 DELETE=1
"""

# Name: field=number:type ...    *type is repeated, type@union belongs to that oneof;
# a line that is indented continues the one above.
MESSAGES = """
KeyValue: key=1:bytes create_revision=2:int64 mod_revision=3:int64 version=4:int64 value=5:bytes lease=6:int64
Event: type=1:Event.EventType kv=2:KeyValue prev_kv=3:KeyValue
ResponseHeader: cluster_id=1:uint64 member_id=2:uint64 revision=3:int64 raft_term=4:uint64
RangeRequest: key=1:bytes range_end=2:bytes limit=3:int64 revision=4:int64 serializable=7:bool
 keys_only=8:bool count_only=9:bool min_mod_revision=10:int64
RangeResponse: header=1:ResponseHeader kvs=2:*KeyValue more=3:bool count=4:int64
PutRequest: key=1:bytes value=2:bytes lease=3:int64 prev_kv=4:bool ignore_value=5:bool ignore_lease=6:bool
PutResponse: header=1:ResponseHeader prev_kv=2:KeyValue
DeleteRangeRequest: key=1:bytes range_end=2:bytes prev_kv=3:bool
DeleteRangeResponse: header=1:ResponseHeader deleted=2:int64 prev_kvs=3:*KeyValue
RequestOp: request_range=1:RangeRequest@request request_put=2:PutRequest@request
 request_delete_range=3:DeleteRangeRequest@request request_txn=4:TxnRequest@request
ResponseOp: response_range=1:RangeResponse@response response_put=2:PutResponse@response
 response_delete_range=3:DeleteRangeResponse@response response_txn=4:TxnResponse@response
Compare: result=1:Compare.CompareResult target=2:Compare.CompareTarget key=3:bytes
 version=4:int64@target_union create_revision=5:int64@target_union mod_revision=6:int64@target_union
 value=7:bytes@target_union lease=8:int64@target_union range_end=64:bytes
TxnRequest: compare=1:*Compare success=2:*RequestOp failure=3:*RequestOp
TxnResponse: header=1:ResponseHeader succeeded=2:bool responses=3:*ResponseOp
CompactionRequest: revision=1:int64 physical=2:bool
CompactionResponse: header=1:ResponseHeader
HashRequest:
HashResponse: header=1:ResponseHeader hash=2:uint32
WatchRequest: create_request=1:WatchCreateRequest@request_union
 progress_request=3:WatchProgressRequest@request_union
WatchCreateRequest: key=1:bytes range_end=2:bytes start_revision=3:int64 progress_notify=4:bool
WatchProgressRequest:
WatchResponse: header=1:ResponseHeader watch_id=2:int64 created=3:bool canceled=4:bool
 compact_revision=5:int64 cancel_reason=6:string fragment=7:bool events=11:*Event
LeaseGrantRequest: TTL=1:int64 ID=2:int64
LeaseGrantResponse: header=1:ResponseHeader ID=2:int64 TTL=3:int64 error=4:string
LeaseRevokeRequest: ID=1:int64
LeaseRevokeResponse: header=1:ResponseHeader
LeaseKeepAliveRequest: ID=1:int64
LeaseKeepAliveResponse: header=1:ResponseHeader ID=2:int64 TTL=3:int64
StatusRequest:
StatusResponse: header=1:ResponseHeader version=2:string dbSize=3:int64 leader=4:uint64 raftIndex=5:uint64
 raftTerm=6:uint64 raftAppliedIndex=7:uint64 errors=8:*string dbSizeInUse=9:int64 isLearner=10:bool
 dbSizeQuota=12:int64
AuthenticateRequest: name=1:string password=2:string
AuthenticateResponse: header=1:ResponseHeader token=2:string
"""

# Service: Method=Request>Response ...    *Message is a stream.  LeaseKeepAlive is one in etcd's definition,
# but one request with one response is the same on the wire.
SERVICES = """
KV: Range=RangeRequest>RangeResponse Put=PutRequest>PutResponse Txn=TxnRequest>TxnResponse
 Compact=CompactionRequest>CompactionResponse
Watch: Watch=*WatchRequest>*WatchResponse
Lease: LeaseGrant=LeaseGrantRequest>LeaseGrantResponse LeaseRevoke=LeaseRevokeRequest>LeaseRevokeResponse
 LeaseKeepAlive=LeaseKeepAliveRequest>LeaseKeepAliveResponse
Cluster:
Maintenance: Status=StatusRequest>StatusResponse Hash=HashRequest>HashResponse
Auth: Authenticate=AuthenticateRequest>AuthenticateResponse
"""


def rows(table: str) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """The lines of a table: a name, and its ``left=right`` pairs in order."""
    for line in table.strip().replace("\n ", " ").splitlines():
        name, _, words = line.partition(":")
        pairs = [word.partition("=") for word in words.split()]
        yield name, [(left, right) for left, _, right in pairs]


def _file() -> bytes:
    """The tables as a serialized protobuf FileDescriptorProto."""

    def message(name: str, fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
        made: list[dict[str, Any]] = []
        unions: list[str] = []
        for left, right in fields:
            number, _, kind = right.partition(":")
            kind, _, union = kind.partition("@")
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            field: dict[str, Any] = {"name": left, "number": int(number)}
            field["label"] = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            # A capital is a message or an enum: the pool finds out which.
            kind_of = "type" if kind.islower() else "type_name"
            field[kind_of] = f"TYPE_{kind.upper()}" if kind.islower() else f".{_PACKAGE}.{kind}"
            if union:
                unions += [union] if union not in unions else []
                field["oneof_index"] = unions.index(union)
            made.append(field)
        enums = [
            {
                "name": enum.rpartition(".")[2],
                "value": [{"name": value, "number": int(number)} for value, number in values],
            }
            for enum, values in rows(ENUMS)
            if enum.startswith(f"{name}.")
        ]
        oneofs = [{"name": one} for one in unions]
        return {"name": name, "field": made, "oneof_decl": oneofs, "enum_type": enums}

    make: Any = descriptor_pb2.FileDescriptorProto
    file: descriptor_pb2.FileDescriptorProto = make(
        name="etcd.proto",
        package=_PACKAGE,
        syntax="proto3",
        message_type=[message(*row) for row in rows(MESSAGES)],
    )
    return file.SerializeToString()


def _stub(service: str, methods: list[tuple[str, str]], messages: dict[str, Message]) -> type:
    """A stub class like those of generated code: built from a channel, with a callable per method."""

    def init(self: Any, channel: Any) -> None:
        for method, right in methods:
            request, _, response = right.partition(">")
            kind = "_".join("stream" if side.startswith("*") else "unary" for side in (request, response))
            make: Callable[..., Any] = getattr(channel, kind)
            call = make(
                f"/{_PACKAGE}.{service}/{method}",
                request_serializer=messages[request.lstrip("*")].SerializeToString,
                response_deserializer=messages[response.lstrip("*")].FromString,
            )
            setattr(self, method, call)

    return type(f"{service}Stub", (), {"__init__": init, "__doc__": f"etcd's {service} service."})


def _build() -> ModuleType:
    """A module object with the names that etcd3 needs of its generated module."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file())
    messages: dict[str, Message] = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name, _ in rows(MESSAGES)
    }
    module = ModuleType("etcd3.etcdrpc", __doc__)
    vars(module).update(messages)
    for service, methods in rows(SERVICES):
        setattr(module, f"{service}Stub", _stub(service, methods, messages))
    return module


# For the rest of the package: ``rpc.RangeRequest``, ``rpc.KVStub`` and so on.
rpc: Any = _build()


def install() -> None:
    """Make ``import etcd3`` use this module's messages instead of its generated ones.

    Call it before the first import of etcd3; if etcd3 is already loaded (somebody made its own module work),
    it is left alone.
    """
    sys.modules.setdefault("etcd3.etcdrpc", rpc)
