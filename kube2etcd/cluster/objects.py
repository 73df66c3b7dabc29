"""Small typed copies of API objects, and how bytes become them.

What it is: one frozen struct per kind with exactly the fields that decide records, and the decoders
for lists, watch events and manifest files.  Decoding goes through private *wire* structs that have
the shape of the JSON and take ``null`` everywhere; what callers see is flat and never ``None``
unless ``None`` means something of its own (an endpoint's readiness).

What it may know: the API's JSON.  What it must never do: touch a file or a socket, or let one odd
object take others with it.  An odd object comes back as :class:`Rejected`, a body that is no
complete answer raises; an error is never an empty list.

Every field costs memory a hundred thousand times; add one only when a record depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec
import yaml
from msgspec import Raw, Struct, field

from kube2etcd.errors import ApiTruncated, ApiUnavailable, ObjectsError

TENANT_CLUSTER_IP: Final = "transparency.tenancy.x-k8s.io/clusterIP"
"""Annotation with the address that a tenant's Service really has, in the cluster below."""

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label by which an EndpointSlice names its Service."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the first part of a streamed list."""

_EMPTY: Final[Mapping[str, str]] = {}


# --- What callers see --------------------------------------------------------------------------


class Metadata(Struct, frozen=True, gc=False):
    """Identity and age.  Labels are kept where selectors read them: Services, Namespaces, VMIs."""

    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    """RFC 3339 in UTC as the server writes it, so it sorts as text; empty when unknown."""
    labels: Mapping[str, str] = _EMPTY
    annotations: Mapping[str, str] = _EMPTY
    """Only :data:`TENANT_CLUSTER_IP`; all others are dropped while decoding."""


class Port(Struct, frozen=True, gc=False):
    """A port of a Service."""

    name: str
    protocol: str
    port: int


class Ingress(Struct, frozen=True, gc=False):
    """An address that a load balancer gave to a Service; one of both is usually empty."""

    ip: str = ""
    hostname: str = ""


class Service(Struct, frozen=True, gc=False):
    """A Service; ``cluster_ip`` is ``"None"`` when headless and empty for ExternalName."""

    metadata: Metadata
    type: str = "ClusterIP"
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    publish_not_ready: bool = False
    ports: tuple[Port, ...] = ()
    load_balancer: tuple[Ingress, ...] = ()


class EndpointPort(Struct, frozen=True, gc=False):
    """A port of an EndpointSlice; ``None`` means every port."""

    name: str
    protocol: str
    port: int | None


class TargetRef(Struct, frozen=True, gc=False):
    """The object behind an endpoint, usually a Pod."""

    kind: str = ""
    name: str = ""


class Endpoint(Struct, frozen=True, gc=False):
    """One backend; readiness that nobody reported is ``None``."""

    addresses: tuple[str, ...]
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None
    hostname: str = ""
    target_ref: TargetRef | None = None


class EndpointSlice(Struct, frozen=True, gc=False):
    """A part of a Service's endpoints, of one address family."""

    metadata: Metadata
    service_name: str = ""
    address_type: str = ""
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class Namespace(Struct, frozen=True, gc=False):
    """A namespace; ``metadata.namespace`` is empty."""

    metadata: Metadata


class Pod(Struct, frozen=True, gc=False):
    """A pod as far as its address goes."""

    metadata: Metadata
    pod_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    phase: str = ""
    host_network: bool = False
    terminating: bool = False
    """A deletion timestamp is set."""


class Interface(Struct, frozen=True, gc=False):
    """A network interface as the VMI's status tells it; nameless when only the guest knows it."""

    name: str = ""
    ip_address: str = ""
    ip_addresses: tuple[str, ...] = ()
    info_source: str = ""


class VirtualMachineInstance(Struct, frozen=True, gc=False):
    """A running KubeVirt machine."""

    metadata: Metadata
    interfaces: tuple[Interface, ...] = ()
    primary_network: str = ""
    """First network of the spec with ``pod`` set or ``multus.default``; empty when there is none."""


ApiObject: TypeAlias = Service | EndpointSlice | Namespace | Pod | VirtualMachineInstance


class Rejected(Struct, frozen=True, gc=False):
    """An object that cannot be read, and why; ``kind`` is the name in :data:`KINDS`."""

    kind: str
    namespace: str
    name: str
    reason: str


class Kind(Struct, frozen=True, gc=False):
    """A kind of object that is listed and watched."""

    name: str
    """Key in :data:`KINDS` and label in metrics: the plural."""
    group: str
    version: str
    plural: str
    kind: str
    """As manifests write it: ``Service``."""
    type: type[ApiObject]
    optional: bool = False
    """Not installed is an ordinary state, not a fault."""
    namespaced: bool = True
    label_selector: str = ""
    field_selector: str = ""

    def path(self, namespace: str | None = None) -> str:
        """URL path of the list, of all namespaces or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            return f"{root}/namespaces/{namespace}/{self.plural}"
        return f"{root}/{self.plural}"

    @property
    def resource(self) -> str:
        """As RBAC rules and ``kubectl`` name it: ``endpointslices.discovery.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("services", "", "v1", "services", "Service", Service),
        Kind("endpointslices", "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", EndpointSlice),
        Kind("namespaces", "", "v1", "namespaces", "Namespace", Namespace, namespaced=False),
        Kind(
            "pods",
            "",
            "v1",
            "pods",
            "Pod",
            Pod,
            # A finished pod no longer holds its address; leaving it out spares its bytes as well.
            field_selector="status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown",
        ),
        Kind(
            "virtualmachineinstances",
            "kubevirt.io",
            "v1",
            "virtualmachineinstances",
            "VirtualMachineInstance",
            VirtualMachineInstance,
            optional=True,
        ),
    )
}
"""Every kind there is, by its plural."""


class Page(Struct, frozen=True, gc=False):
    """One answer to a list request."""

    items: list[ApiObject]
    rejected: list[Rejected]
    resource_version: str
    continue_: str = ""
    """Token for the next page; empty on the last."""
    remaining: int = 0
    """Objects after this page, for progress; 0 when the server does not say."""


class Event(Struct, frozen=True, gc=False):
    """One line of a watch.

    ``type`` is ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, or a word that nobody knows yet.
    An object that cannot be read leaves ``object`` empty and says so in ``rejected``;
    namespace and name are known all the same, and for DELETED they are all one needs.
    """

    type: str
    object: ApiObject | None = None
    namespace: str = ""
    name: str = ""
    resource_version: str = ""
    initial_events_end: bool = False
    rejected: Rejected | None = None
    code: int = 0
    """Of an ERROR: the HTTP status it stands for."""
    message: str = ""


class Manifests(Struct, frozen=True, gc=False):
    """What a manifest file holds."""

    objects: list[ApiObject]
    rejected: list[Rejected]
    ignored: int = 0
    """Documents of kinds that have nothing to do with names."""


# --- The JSON as it comes: null everywhere, unknown fields skipped --------------------------------


class _Wire(Struct, gc=False, rename="camel"):
    """Base of all wire structs."""


class _Annotations(_Wire):
    # A struct and not a dict: all other annotations are skipped without being built.
    tenant_cluster_ip: str | None = field(default=None, name=TENANT_CLUSTER_IP)
    initial_events_end: str | None = field(default=None, name=INITIAL_EVENTS_END)


class _Metadata(_Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: _Annotations | None = None


class _SliceLabels(_Wire):
    service_name: str | None = field(default=None, name=SERVICE_NAME_LABEL)


class _SliceMetadata(_Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    labels: _SliceLabels | None = None


class _PodMetadata(_Wire):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class _Present(_Wire):
    """Anything that is an object; its content does not matter."""


class _Port(_Wire):
    port: int
    name: str | None = None
    protocol: str | None = None


class _Ingress(_Wire):
    ip: str | None = None
    hostname: str | None = None


class _ServiceSpec(_Wire):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = field(default=None, name="clusterIPs")
    external_name: str | None = None
    external_ips: tuple[str, ...] | None = field(default=None, name="externalIPs")
    publish_not_ready_addresses: bool | None = None
    ports: tuple[_Port, ...] | None = None


class _LoadBalancer(_Wire):
    ingress: tuple[_Ingress, ...] | None = None


class _ServiceStatus(_Wire):
    load_balancer: _LoadBalancer | None = None


class _Service(_Wire):
    metadata: _Metadata
    spec: _ServiceSpec | None = None
    status: _ServiceStatus | None = None


class _Conditions(_Wire):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _TargetRef(_Wire):
    kind: str | None = None
    name: str | None = None


class _Endpoint(_Wire):
    addresses: tuple[str, ...] | None = None
    conditions: _Conditions | None = None
    hostname: str | None = None
    target_ref: _TargetRef | None = None


class _EndpointPort(_Wire):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class _EndpointSlice(_Wire):
    metadata: _SliceMetadata
    address_type: str | None = None
    ports: tuple[_EndpointPort, ...] | None = None
    endpoints: tuple[_Endpoint, ...] | None = None


class _Namespace(_Wire):
    metadata: _Metadata


class _PodIP(_Wire):
    ip: str | None = None


class _PodSpec(_Wire):
    host_network: bool | None = None


class _PodStatus(_Wire):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: tuple[_PodIP, ...] | None = field(default=None, name="podIPs")


class _Pod(_Wire):
    metadata: _PodMetadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _Multus(_Wire):
    default: bool | None = None


class _Network(_Wire):
    name: str | None = None
    pod: _Present | None = None
    multus: _Multus | None = None


class _VmiSpec(_Wire):
    networks: tuple[_Network, ...] | None = None


class _Interface(_Wire):
    name: str | None = None
    ip_address: str | None = None
    ip_addresses: tuple[str, ...] | None = None
    info_source: str | None = None


class _VmiStatus(_Wire):
    interfaces: tuple[_Interface, ...] | None = None


class _Vmi(_Wire):
    metadata: _Metadata
    spec: _VmiSpec | None = None
    status: _VmiStatus | None = None


class _ListMetadata(_Wire):
    resource_version: str | None = None
    continue_: str | None = field(default=None, name="continue")
    remaining_item_count: int | None = None


class _RawList(_Wire):
    kind: str = ""
    metadata: _ListMetadata | None = None
    # Absent and null differ: a list without objects says null or [], an answer that is no list says nothing.
    items: list[Raw] | msgspec.UnsetType | None = msgspec.UNSET


class _RawEvent(_Wire):
    type: str
    object: Raw


class _Status(_Wire):
    code: int | None = None
    reason: str | None = None
    message: str | None = None


class _Identified(_Wire):
    """The little that is read of an object that cannot be read."""

    metadata: _PodMetadata | None = None


class _BookmarkMetadata(_Wire):
    resource_version: str | None = None
    annotations: _Annotations | None = None


class _Bookmark(_Wire):
    metadata: _BookmarkMetadata


# --- Wire to flat ---------------------------------------------------------------------------------


class _Nameless(ValueError):
    """An object without a name cannot be told from another."""


def _name(meta: _Metadata | _SliceMetadata | _PodMetadata) -> str:
    if not meta.name:
        raise _Nameless("metadata.name is missing")
    return meta.name


def _metadata(meta: _Metadata) -> Metadata:
    labels: Mapping[str, str] = _EMPTY
    if meta.labels:
        labels = (
            {key: value or "" for key, value in meta.labels.items()}
            if None in meta.labels.values()
            else meta.labels  # type: ignore[assignment]  # no None in it, and no copy is made
        )
    annotations: Mapping[str, str] = _EMPTY
    if meta.annotations is not None and meta.annotations.tenant_cluster_ip:
        annotations = {TENANT_CLUSTER_IP: meta.annotations.tenant_cluster_ip}
    return Metadata(
        meta.namespace or "",
        _name(meta),
        meta.uid or "",
        meta.resource_version or "",
        meta.creation_timestamp or "",
        labels,
        annotations,
    )


def _bare_metadata(meta: _SliceMetadata | _PodMetadata) -> Metadata:
    return Metadata(
        meta.namespace or "",
        _name(meta),
        meta.uid or "",
        meta.resource_version or "",
        meta.creation_timestamp or "",
    )


def _service(wire: _Service) -> Service:
    spec = wire.spec or _ServiceSpec()
    ingress = wire.status and wire.status.load_balancer and wire.status.load_balancer.ingress
    return Service(
        _metadata(wire.metadata),
        spec.type or "ClusterIP",
        spec.cluster_ip or "",
        spec.cluster_ips or (),
        spec.external_name or "",
        spec.external_ips or (),
        bool(spec.publish_not_ready_addresses),
        tuple([Port(p.name or "", p.protocol or "TCP", p.port) for p in spec.ports]) if spec.ports else (),
        tuple([Ingress(i.ip or "", i.hostname or "") for i in ingress]) if ingress else (),
    )


_UNREPORTED: Final = _Conditions()


def _endpoint(wire: _Endpoint) -> Endpoint:
    conditions = wire.conditions or _UNREPORTED
    ref = wire.target_ref
    return Endpoint(
        wire.addresses or (),
        conditions.ready,
        conditions.serving,
        conditions.terminating,
        wire.hostname or "",
        TargetRef(ref.kind or "", ref.name or "") if ref is not None else None,
    )


def _endpoint_slice(wire: _EndpointSlice) -> EndpointSlice:
    labels = wire.metadata.labels
    return EndpointSlice(
        _bare_metadata(wire.metadata),
        (labels.service_name or "") if labels is not None else "",
        wire.address_type or "",
        tuple([EndpointPort(p.name or "", p.protocol or "TCP", p.port) for p in wire.ports])
        if wire.ports
        else (),
        tuple([_endpoint(e) for e in wire.endpoints]) if wire.endpoints else (),
    )


def _namespace(wire: _Namespace) -> Namespace:
    return Namespace(_metadata(wire.metadata))


def _pod(wire: _Pod) -> Pod:
    status = wire.status or _PodStatus()
    return Pod(
        _bare_metadata(wire.metadata),
        status.pod_ip or "",
        tuple([ip.ip for ip in status.pod_ips if ip.ip]) if status.pod_ips else (),
        status.phase or "",
        bool(wire.spec and wire.spec.host_network),
        bool(wire.metadata.deletion_timestamp),
    )


def _is_primary(network: _Network) -> bool:
    return network.pod is not None or bool(network.multus and network.multus.default)


def _vmi(wire: _Vmi) -> VirtualMachineInstance:
    networks = (wire.spec and wire.spec.networks) or ()
    interfaces = (wire.status and wire.status.interfaces) or ()
    return VirtualMachineInstance(
        _metadata(wire.metadata),
        tuple(
            [
                Interface(i.name or "", i.ip_address or "", i.ip_addresses or (), i.info_source or "")
                for i in interfaces
            ]
        ),
        next((n.name or "" for n in networks if _is_primary(n)), ""),
    )


class _Codec:
    """Decoders of one kind, built once."""

    def __init__(self, kind: Kind, wire: type[_Wire], flat: Callable[[Any], ApiObject]) -> None:
        self.kind = kind
        self.item = msgspec.json.Decoder(wire)
        self.flat = flat
        self.list: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct(
                f"_{kind.kind}List",
                [
                    ("kind", str, ""),
                    ("metadata", _ListMetadata | None, None),
                    ("items", list[wire] | msgspec.UnsetType | None, msgspec.UNSET),  # type: ignore[valid-type]
                ],
                bases=(_Wire,),
                gc=False,
            )
        )

    def read(self, raw: Raw | bytes) -> ApiObject | Rejected:
        try:
            return self.flat(self.item.decode(raw))
        except (msgspec.MsgspecError, ValueError) as error:
            return self.reject(raw, error)

    def reject(self, raw: Raw | bytes, error: Exception) -> Rejected:
        meta = _identity(raw)
        return Rejected(self.kind.name, meta.namespace or "", meta.name or "", str(error))


_CODECS: Final[Mapping[str, _Codec]] = {
    name: _Codec(KINDS[name], wire, flat)
    for name, wire, flat in (
        ("services", _Service, _service),
        ("endpointslices", _EndpointSlice, _endpoint_slice),
        ("namespaces", _Namespace, _namespace),
        ("pods", _Pod, _pod),
        ("virtualmachineinstances", _Vmi, _vmi),
    )
}

_raw_list = msgspec.json.Decoder(_RawList)
_raw_event = msgspec.json.Decoder(_RawEvent)
_identified = msgspec.json.Decoder(_Identified)
_bookmark = msgspec.json.Decoder(_Bookmark)
_status = msgspec.json.Decoder(_Status)
_anything = msgspec.json.Decoder()


def _identity(raw: Raw | bytes) -> _PodMetadata:
    """Namespace and name of an object whose other fields are odd, as far as there are any."""
    try:
        return _identified.decode(raw).metadata or _PodMetadata()
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        meta = _anything.decode(raw)["metadata"]
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
        return _PodMetadata()
    if not isinstance(meta, dict):
        return _PodMetadata()
    values = {key: meta.get(name) for key, name in _IDENTITY.items()}
    return _PodMetadata(**{key: value for key, value in values.items() if isinstance(value, str)})


_IDENTITY: Final = {"name": "name", "namespace": "namespace", "resource_version": "resourceVersion"}


# --- What callers call ----------------------------------------------------------------------------


def decode_list(kind: Kind, body: bytes) -> Page:
    """Read one page of a list.

    :raises ApiTruncated: the body is no JSON, or ends before it should.
    :raises ApiUnavailable: it is JSON, but not a list of this kind.
    """
    codec = _CODECS[kind.name]
    try:
        answer = codec.list.decode(body)
        _check_list(kind, answer)
        items = [codec.flat(wire) for wire in answer.items or ()]
    except (msgspec.MsgspecError, _Nameless, UnicodeDecodeError):
        return _decode_item_by_item(kind, body)
    return _page(answer.metadata, items, [])


def _decode_item_by_item(kind: Kind, body: bytes) -> Page:
    """The slow way for a page with an odd object in it: all the others still count."""
    codec = _CODECS[kind.name]
    try:
        answer = _raw_list.decode(body)
    except msgspec.ValidationError as error:
        raise ApiUnavailable(_unreadable(kind, body, error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiTruncated(_unreadable(kind, body, error)) from error
    _check_list(kind, answer)
    items: list[ApiObject] = []
    rejected: list[Rejected] = []
    for raw in answer.items or ():
        result = codec.read(raw)
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            items.append(result)
    return _page(answer.metadata, items, rejected)


def _page(meta: _ListMetadata | None, items: list[ApiObject], rejected: list[Rejected]) -> Page:
    meta = meta or _ListMetadata()
    return Page(
        items,
        rejected,
        meta.resource_version or "",
        meta.continue_ or "",
        meta.remaining_item_count or 0,
    )


def _check_list(kind: Kind, answer: Any) -> None:
    """Refuse what is no list: a stray document must never look like a cluster without objects."""
    wrong = ""
    if answer.kind != f"{kind.kind}List":
        wrong = f"kind is {answer.kind!r}"
    elif answer.items is msgspec.UNSET:
        wrong = "it has no items"
    elif answer.metadata is None or not answer.metadata.resource_version:
        wrong = "it has no resourceVersion"
    if wrong:
        raise ApiUnavailable(
            f"the answer to listing {kind.resource} is not a {kind.kind}List: {wrong}; "
            "is this URL a Kubernetes API server?"
        )


def _unreadable(kind: Kind, body: bytes, error: Exception) -> str:
    start = body[:40].decode("utf-8", "replace").strip()
    return (
        f"the answer to listing {kind.resource} ({len(body)} bytes, beginning {start!r}) "
        f"cannot be read as JSON: {error}"
    )


def decode_event(kind: Kind, line: bytes) -> Event:
    """Read one line of a watch.

    :raises ApiTruncated: the line is not an event at all.
    """
    try:
        event = _raw_event.decode(line)
        if event.type == "BOOKMARK":
            return _read_bookmark(event.object)
        if event.type == "ERROR":
            status = _status.decode(event.object)
            return Event(
                "ERROR", code=status.code or 0, message=status.message or status.reason or "no reason given"
            )
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiTruncated(f"a line of the watch of {kind.resource} is no event: {error}") from error
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        return Event(event.type)
    codec = _CODECS[kind.name]
    result = codec.read(event.object)
    if isinstance(result, Rejected):
        version = _identity(event.object).resource_version or ""
        return Event(event.type, None, result.namespace, result.name, version, rejected=result)
    meta = result.metadata
    return Event(event.type, result, meta.namespace, meta.name, meta.resource_version)


def _read_bookmark(raw: Raw) -> Event:
    meta = _bookmark.decode(raw).metadata
    ended = meta.annotations is not None and meta.annotations.initial_events_end == "true"
    return Event("BOOKMARK", resource_version=meta.resource_version or "", initial_events_end=ended)


class _ManifestLoader(yaml.SafeLoader):
    """Reads a timestamp as the text that it is, like the API does."""


_ManifestLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_BY_KIND: Final[Mapping[tuple[str, str], Kind]] = {(k.group, k.kind): k for k in KINDS.values()}

_LOOKS_LIKE_JSON: Final = re.compile(r"\s*[\[{]")


def decode_manifests(text: str | bytes, source: str = "the manifests") -> Manifests:
    """Read manifests: YAML or JSON, several documents, and lists of objects.

    Kinds that decide no name are counted and left out; any version of a known group will do.
    A namespaced object without a namespace is in ``default``, as for ``kubectl``.

    :raises ObjectsError: the text is neither YAML nor JSON; ``source`` names it in the message.
    """
    objects: list[ApiObject] = []
    rejected: list[Rejected] = []
    ignored = 0
    for document in _documents(text, source):
        kind, encoded = _recognise(document)
        if kind is None:
            ignored += 1
        elif isinstance(encoded, Rejected):
            rejected.append(encoded)
        else:
            result = _CODECS[kind.name].read(encoded)
            (rejected if isinstance(result, Rejected) else objects).append(result)  # type: ignore[arg-type]
    return Manifests(objects, rejected, ignored)


def _documents(text: str | bytes, source: str) -> Iterator[Any]:
    """Every object of the text, lists unfolded."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        documents = _json_document(text) or list(yaml.load_all(text, Loader=_ManifestLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ObjectsError(f"{source} cannot be read as YAML or JSON: {reason}") from error
    for document in documents:
        yield from _unfold(document)


def _json_document(text: str) -> list[Any]:
    """The one document of a JSON text; JSON is YAML as well, but a hundred times slower to read so."""
    if not _LOOKS_LIKE_JSON.match(text):
        return []
    try:
        return [_anything.decode(text)]
    except msgspec.DecodeError:
        return []


def _unfold(document: Any) -> Iterator[Any]:
    if document is None:
        return
    if isinstance(document, list):
        for item in document:
            yield from _unfold(item)
        return
    kind = document.get("kind") if isinstance(document, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and "items" in document:
        # A ServiceList as the API writes it names kind and version once, not in every item.
        inherited = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
        for item in document["items"] or ():
            yield from _unfold({**inherited, **item} if isinstance(item, dict) else item)
        return
    yield document


def _recognise(document: Any) -> tuple[Kind | None, bytes | Rejected]:
    """The kind of a document and its JSON; no kind when it is none of ours."""
    if not isinstance(document, dict):
        return None, b""
    version = str(document.get("apiVersion") or "")
    group = version.rpartition("/")[0]
    kind = _BY_KIND.get((group, str(document.get("kind"))))
    if kind is None:
        return None, b""
    meta = document.get("metadata")
    if isinstance(meta, dict):
        scope = {"namespace": (meta.get("namespace") or "default") if kind.namespaced else None}
        document = {**document, "metadata": {**meta, **scope}}
    try:
        return kind, msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError) as error:
        found = document["metadata"] if isinstance(meta, dict) else {}
        namespace, name = str(found.get("namespace") or ""), str(found.get("name") or "")
        return kind, Rejected(kind.name, namespace, name, str(error))
