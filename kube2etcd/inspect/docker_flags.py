"""Resolver settings of clients: docker flags, ``daemon.json``, kubelet configuration, ``resolv.conf``.  Pure.

Everything else in an existing ``daemon.json`` stays byte for byte, including numbers, escapes and whitespace.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from kube2etcd.errors import SettingsError
from skydns_compat.names import Address, InvalidName, Name

#: Most servers that resolvers use (MAXNS in resolv.h); the kubelet drops the rest too.
MAX_SERVERS: Final = 3

_BOM: Final = "\ufeff"
_BLANK: Final = " \t\r\n"


class DaemonJsonError(ValueError):
    """A ``daemon.json`` that cannot be edited; the message continues a sentence that begins with its path."""


@dataclass(frozen=True, slots=True)
class ClientDns:
    """DNS servers and search list of a client; SettingsError if no resolver could use them."""

    servers: tuple[Address, ...]
    """One to three addresses of the cluster's DNS, in the order in which they are tried."""
    domain: Name
    """The cluster's zone."""
    namespace: str = "default"
    """The namespace whose Services are found by name alone."""
    ndots: int | None = None
    """Number of dots from which on a name is first tried as is; None: the resolver's default, 1."""

    def __post_init__(self) -> None:
        if not self.servers:
            raise SettingsError("no DNS server is set; write --dns-server-ip, such as 10.96.0.10")
        if len(self.servers) > MAX_SERVERS:
            raise SettingsError(
                f"--dns-server-ip has {len(self.servers)} servers; resolvers use {MAX_SERVERS}: "
                "leave out the others"
            )
        for server in self.servers:
            if ip_address(server).is_unspecified or ip_address(server).is_multicast:
                raise SettingsError(
                    f"--dns-server-ip {server} is not a server's address; write that of the DNS Service"
                )
        try:
            self.domain.child(self.namespace, "svc")
        except InvalidName as error:
            raise SettingsError(f"--domain is too long to prepend {self.namespace}.svc ({error})") from None

    @property
    def search(self) -> tuple[Name, ...]:
        """The kubelet's search list, for ``web``, ``web.shop`` and ``web.shop.svc``."""
        return self.domain.child(self.namespace, "svc"), self.domain.child("svc"), self.domain

    @property
    def options(self) -> tuple[str, ...]:
        """Resolver options in the form of ``resolv.conf``."""
        return () if self.ndots is None else (f"ndots:{self.ndots}",)

    def outside(self) -> ClientDns:
        """The same settings for a network namespace of its own; SettingsError if a server is loopback."""
        for server in self.servers:
            if ip_address(server).is_loopback:
                raise SettingsError(
                    f"--dns-server-ip {server} is the container itself when used in a container; "
                    "write an address that containers can reach"
                )
        return self


def flags(client: ClientDns) -> str:
    """Options of ``dockerd`` and ``docker run``, on one line."""

    def each(option: str, values: Iterable[object]) -> list[str]:
        return [word for one in values for word in (option, str(one))]

    servers, search = each("--dns", client.outside().servers), each("--dns-search", client.search)
    return shlex.join([*servers, *search, *each("--dns-opt", client.options)]) + "\n"


def daemon_json(client: ClientDns) -> str:
    """A ``daemon.json`` with nothing but these settings."""
    return merged(b"", client).decode()


def kubelet(client: ClientDns) -> str:
    """A drop-in for the kubelet's ``--config-dir``; the kubelet generates the search list of each pod."""
    # Quoted: to YAML, an IPv6 address that ends in :: starts a mapping.
    servers = "".join(f"  - {json.dumps(str(server))}\n" for server in client.outside().servers)
    return f"""\
# Made by: kube2etcd docker-flags --format kubelet
# Pods search in their own namespace, with ndots:5; the kubelet sees to that.
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
clusterDNS:
{servers}clusterDomain: {json.dumps(str(client.domain))}
"""


def resolv_conf(client: ClientDns) -> str:
    """A complete ``resolv.conf``."""
    servers = "".join(f"nameserver {server}\n" for server in client.servers)
    options = "".join(f"options {option}\n" for option in client.options)
    return f"""\
# Made by: kube2etcd docker-flags --format resolv.conf
search {" ".join(map(str, client.search))}
{servers}{options}"""


#: The choices of ``--format``.
FORMATS: Final[Mapping[str, Callable[[ClientDns], str]]] = {
    "flags": flags,
    "daemon.json": daemon_json,
    "kubelet": kubelet,
    "resolv.conf": resolv_conf,
}


class _Member(NamedTuple):
    """A member of the outermost object, and the position of its value in the text."""

    key: str
    value: Any
    start: int
    end: int


def merged(before: bytes, client: ClientDns) -> bytes:
    """``before`` with these settings, and every other character unchanged.

    ``dns`` and ``dns-search`` are replaced, since a server or domain kept beside ours could answer
    instead of the cluster.  In ``dns-opts`` only ``ndots`` is, and only if it is set.  To dockerd,
    an empty file is an empty object.

    :raises DaemonJsonError: ``before`` is not a JSON object, or has one of these keys twice.
    """
    try:
        whole = before.decode()
    except UnicodeDecodeError as error:
        raise DaemonJsonError(f"is not JSON: it is not UTF-8 (byte {error.start})") from None
    mark = _BOM if whole.startswith(_BOM) else ""
    text = whole.removeprefix(mark)
    if not text.strip(_BLANK):
        text = "{}\n"
    members = _members(text)
    wanted = _wanted({member.key: member.value for member in members}, client)
    for key in wanted:
        if sum(member.key == key for member in members) > 1:
            raise DaemonJsonError(f'has "{key}" twice; keep one of them')
    return (mark + _replaced(text, members, wanted)).encode()


def _wanted(present: Mapping[str, Any], client: ClientDns) -> dict[str, list[str]]:
    wanted = {"dns": [*map(str, client.outside().servers)], "dns-search": [*map(str, client.search)]}
    if client.ndots is not None:
        options = present.get("dns-opts") or []
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise DaemonJsonError(
                'has a "dns-opts" that is not a list of strings; write ["ndots:5"], or remove it'
            )
        ours = [option for option in options if option.partition(":")[0] == "ndots"]
        kept = [option for option in options if option not in ours]
        wanted["dns-opts"] = options if tuple(ours) == client.options else [*kept, *client.options]
    return wanted


def _members(text: str) -> list[_Member]:
    # Python refuses to parse an integer of thousands of digits, and no number is ours.
    decoder = json.JSONDecoder(parse_int=float, parse_constant=_no_constant)
    try:
        whole = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise DaemonJsonError(
            f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise DaemonJsonError("cannot be used: it is nested too deeply") from None
    if not isinstance(whole, dict):
        raise DaemonJsonError("is not a JSON object, in braces")
    members, at = [], _after_blank(text, _after_blank(text, 0) + 1)
    while text[at] != "}":
        key, colon = decoder.raw_decode(text, at)
        start = _after_blank(text, _after_blank(text, colon) + 1)
        value, end = decoder.raw_decode(text, start)
        members.append(_Member(key, value, start, end))
        at = _after_blank(text, end)
        at = _after_blank(text, at + (text[at] == ","))
    return members


def _replaced(text: str, members: list[_Member], wanted: Mapping[str, list[str]]) -> str:
    present = [member.key for member in members]
    edits = [
        (member.start, member.end, json.dumps(wanted[member.key]))
        for member in members
        if member.key in wanted and member.value != wanted[member.key]
    ]
    new = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in wanted.items() if key not in present]
    opened = _after_blank(text, 0) + 1
    first = _after_blank(text, opened)
    if members:
        # New keys get the line break and indentation of the first one.
        lead, last = text[opened:first] or " ", members[-1].end
        edits.append((last, last, "".join(f",{lead}{member}" for member in new)))
    else:
        edits.append((opened, first, ",".join(f"\n  {member}" for member in new) + "\n"))
    # Backwards, so that earlier positions stay valid.
    for start, end, replacement in reversed(edits):
        text = text[:start] + replacement + text[end:]
    return text


def _after_blank(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip(_BLANK))


def _no_constant(text: str) -> Any:
    raise DaemonJsonError(f"is not JSON: {text} is not a number")
