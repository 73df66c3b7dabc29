"""How one value of text or YAML is read that says where something is: addresses, networks, doors, URLs.

Each converter gives what the tree holds, or a `Fault` that says what to write instead.  Never looks whether
anything is there.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from kube2etcd.settings.tree import HostPort, Network
from kube2etcd.settings.values import to_text
from kube2etcd.settings.words import Convert, Fault, called
from skydns_compat.names import Address, InvalidAddress, parse_address


def to_address(value: Any) -> Address:
    """An IPv4 or IPv6 address."""
    try:
        return parse_address(to_text(value).strip())
    except InvalidAddress:
        hint = ", without brackets" if "[" in value else ""
        raise Fault(f"is {value!r}; write one IP address such as 10.96.0.10 or fd00::10{hint}") from None


def to_network(value: Any) -> Network:
    """A network in CIDR form, without host bits."""
    try:
        return ipaddress.ip_network(to_text(value).strip())
    except ValueError:
        raise Fault(f"is {called(value)}; write one network such as 10.10.0.0/16 or fd00:5::/64") from None


def parse_host_port(value: Any) -> HostPort:
    """``HOST:PORT``, ``:PORT``, ``[::]:PORT`` or a port alone; ``ValueError`` says what to write."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else to_text(value).strip()
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]:|(?P<host>[^:\[\]\s/]*):)?(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        bare = text.count(":") > 1 and "[" not in text
        hint = "; an IPv6 address stands in brackets, such as [::1]:8081" if bare else ""
        raise Fault(f"is {value!r}; write HOST:PORT, :PORT or [IPV6]:PORT with a port up to 65535{hint}")
    if match["six"] is not None and not _is_v6(match["six"]):
        raise Fault(f"is {value!r}; only an IPv6 address stands in brackets, such as [::1]:8081")
    return HostPort(match["six"] or match["host"] or "", int(match["port"]))


def to_door(value: Any) -> HostPort | None:
    """Where to listen, as `parse_host_port`; nothing: not at all."""
    return None if isinstance(value, str) and not value.strip() else parse_host_port(value)


def to_resolver(value: Any) -> HostPort:
    """``ADDRESS`` or ``ADDRESS:PORT`` of a DNS server; the port is 53 where none is given."""
    text = to_text(value).strip()
    try:
        return HostPort(str(parse_address(text)), 53)
    except InvalidAddress:
        found = parse_host_port(text)
        return HostPort(str(to_address(found.host)), found.port)


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def to_url(example: str) -> Convert:
    """An http or https URL; ``example`` is the one that the fault shows."""

    def convert(value: Any) -> str:
        text = to_text(value).strip()
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            usable = usable and re.search(r"[^!-~]|[?#]", text) is None
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            raise Fault(f"is {_hidden(text)}; write a URL such as {example}{_url_hint(text)}")
        if parts.username is not None or parts.password is not None:
            raise Fault("holds a user name or password; give them by options or files of their own")
        return text.rstrip("/")

    return convert


def _url_hint(text: str) -> str:
    """What is wrong with a URL, where it can be seen."""
    scheme, slashes, rest = text.partition("://")
    host = (rest if slashes else scheme).partition("/")[0].rpartition("@")[2]
    port = re.search(r":([0-9]+)$", host)
    if host.count(":") > 1 and "[" not in host:
        return "; an IPv6 address stands in brackets, such as http://[::1]:2379"
    if not slashes:
        return ", with http:// or https:// in front"
    if port is not None and int(port[1]) > 65535:
        return ", with a port up to 65535"
    return ", without ? and #" if re.search("[?#]", text) else ""


def _hidden(text: str) -> str:
    """The text as typed, less what may be a password."""
    return repr(re.sub(r"//[^/@]*@", "//***@", text))


def to_etcd_url(value: Any) -> str:
    """The URL of an etcd server: no path, no credentials."""
    url: str = to_url("http://127.0.0.1:2379")(value)
    if urlsplit(url).path:
        raise Fault(f"is {url!r}; write it without a path, such as http://127.0.0.1:2379")
    return url


def to_bind(value: Any) -> str:
    """An address of this machine to listen on; ``0.0.0.0`` and ``::`` stand for all."""
    text = to_text(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
        raise Fault(f"is {value!r}; write an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    return text


def to_upstream(value: Any) -> str:
    """Where a Corefile forwards to."""
    text = to_text(value).strip()
    if not text or re.search(r"[{}\"#\n]", text) or not (text == "none" or all(map(_forwards, text.split()))):
        raise Fault(
            f"is {text!r}; write a file such as /etc/resolv.conf, addresses such as 192.0.2.53 with blanks"
            " between, or none"
        )
    return text


def _forwards(word: str) -> bool:
    """Whether CoreDNS can forward to it: it takes no names, and anything else for a file."""
    if "/" in word:
        return True
    try:
        to_resolver(word)
    except Fault:
        return False
    return True
