"""What a server block of a Corefile says, as data, and the settings that decide about it.  Pure.

A server block chooses questions by zone, rewrites their names, answers some by template, and asks etcd for
the rest.  `skydns_compat.rules` makes such data, `skydns_compat.corefile` writes it for CoreDNS, and
`skydns_compat.reader_served` answers from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from skydns_compat.names import Name

#: A template for every type.
ANY_TYPE = ("ANY",)
#: The zones of addresses backwards (RFC 1035 section 3.5, RFC 3596 section 2.5).
REVERSE = (Name(("in-addr", "arpa")), Name(("ip6", "arpa")))


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Ask for another name; the answer carries the name that was asked for.

    ``pattern`` is an RE2 expression over the name with its final dot, lower case.  ``back``, where
    given, says how names in answers return: (pattern, replacement); without it the name that was
    asked for comes back, and the rules that follow are passed over unless ``then`` says go on.
    """

    pattern: str
    replacement: str
    back: tuple[str, str] | None = None
    then: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """Answer without a read: the given types of names that match, with this rcode and records.

    ``answer`` is a Go template of one record, or empty for none.
    """

    patterns: tuple[str, ...]
    rcode: str = "NXDOMAIN"
    types: tuple[str, ...] = ANY_TYPE
    answer: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One server block: the zones that choose it, its rules in order, and the etcd zones behind."""

    zones: tuple[Name, ...]
    backend: tuple[Name, ...]
    rewrites: tuple[Rewrite, ...] = ()
    templates: tuple[Template, ...] = ()
    fallthrough: bool = False
    only_types: tuple[str, ...] = ()
    ordered: bool = False
    listen: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Subzone:
    """A zone beside the cluster's: names of ``depth`` labels hold data, those above exist or not.

    ``deeper`` is how many labels below such a name can hold data too; None is any number.
    ``ordered`` keeps the order of addresses that the keys give.  ``listen`` is a door of its own.
    """

    zone: Name
    depth: int = 2
    deeper: int | None = 2
    wildcards: bool = False
    ordered: bool = False
    listen: str = ""
    name_server: bool = False


@dataclass(frozen=True, slots=True)
class CorefileSettings:
    """What a Corefile depends on.  ``listen`` is HOST:PORT or :PORT; an empty address leaves a door out."""

    domain: Name
    etcd_servers: tuple[str, ...] = ("http://127.0.0.1:2379",)
    etcd_prefix: str = "/skydns"
    etcd_cafile: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    listen: str = ":53"
    upstream: str = "/etc/resolv.conf"
    """Where other names are asked; ``none`` serves the zones alone."""
    cache: int = 30
    """Seconds that answers are kept; 0 is no cache."""
    denial: int = 5
    """Seconds that "no such name" is kept: short, since a new name should appear soon."""
    ttl: int = 30
    pods: str = "disabled"
    health: str = ":8080"
    lameduck: int = 5
    """Seconds that the server still answers after it was told to stop, as clients learn of it late."""
    ready: str = ":8181"
    prometheus: str = ":9153"
    subzones: tuple[Subzone, ...] = ()
    external: tuple[Name, ...] = ()
    """Zones whose names nest to any depth (`skydns_compat.nested`); none of them within another."""
    reverse: tuple[Name, ...] = REVERSE
    """Zones of addresses; none where no zone here has addresses to be asked backwards."""
    cluster: bool = True
    """Whether the cluster's zone is served."""
