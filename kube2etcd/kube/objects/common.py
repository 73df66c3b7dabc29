"""What all kinds of objects have in common: identity, age, rejection, and the shape of their JSON.

What it is: the flat :class:`Metadata` that callers see, and the *wire* structs that have the
shape of the JSON and take ``null`` everywhere.  What it must never do: know a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Annotated, Final

from msgspec import Meta, Struct, field

TENANT_CLUSTER_IP: Final = "transparency.tenancy.x-k8s.io/clusterIP"
"""Annotation with the address that a tenant's Service really has, in the cluster below."""


PortNumber = Annotated[int, Meta(ge=0, le=65535)]
"""What SRV can carry.  Beyond Go's int the server could not even decode the value, and would fail for
every name above it."""


EMPTY: Final[Mapping[str, str]] = {}
"""Shared by all objects without labels."""


class Metadata(Struct, frozen=True, gc=False):
    """Identity and age.  Labels are kept where selectors read them: Services and Namespaces.

    No resourceVersion: two versions of an object that differ in nothing else are equal.
    """

    namespace: str
    name: str
    creation_timestamp: str = ""
    """RFC 3339 in UTC as the server writes it, so it sorts as text; empty when unknown."""
    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY
    """Only :data:`TENANT_CLUSTER_IP`; all others are dropped while decoding."""


class Rejected(Struct, frozen=True, gc=False):
    """An object that cannot be read, and why; ``kind`` is the name in the table of kinds."""

    kind: str
    namespace: str
    name: str
    reason: str


# --- The JSON as it comes: null everywhere, unknown fields skipped --------------------------------


class Wire(Struct, gc=False, rename="camel"):
    """Base of all wire structs."""


class Annotations(Wire):
    """A struct and not a dict: all other annotations are skipped without being built."""

    tenant_cluster_ip: str | None = field(default=None, name=TENANT_CLUSTER_IP)


class Identity(Wire):
    """What every object's metadata has."""

    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None


class WireMetadata(Identity):
    """Where labels and annotations may decide something."""

    labels: dict[str, str | None] | None = None
    annotations: Annotations | None = None


class BareMetadata(Identity):
    """Where labels and annotations decide nothing."""


# --- Wire to flat ---------------------------------------------------------------------------------


class Nameless(ValueError):
    """An object without a name cannot be told from another."""


def name_of(meta: Identity) -> str:
    """The name.

    :raises Nameless: there is none.
    """
    if not meta.name:
        raise Nameless("metadata.name is missing")
    return meta.name


def read_metadata(meta: WireMetadata) -> Metadata:
    """Metadata with labels and the annotations that matter.

    :raises Nameless: it has no name.
    """
    labels: Mapping[str, str] = EMPTY
    if meta.labels:
        labels = (
            {key: value or "" for key, value in meta.labels.items()}
            if None in meta.labels.values()
            else meta.labels  # type: ignore[assignment]  # no None in it, and no copy is made
        )
    annotations: Mapping[str, str] = EMPTY
    if meta.annotations is not None and meta.annotations.tenant_cluster_ip:
        annotations = {TENANT_CLUSTER_IP: meta.annotations.tenant_cluster_ip}
    return Metadata(
        intern(meta.namespace or ""),
        name_of(meta),
        meta.creation_timestamp or "",
        labels,
        annotations,
    )


def read_bare_metadata(meta: Identity) -> Metadata:
    """Metadata without labels and annotations.

    :raises Nameless: it has no name.
    """
    return Metadata(
        intern(meta.namespace or ""),
        name_of(meta),
        meta.creation_timestamp or "",
    )
