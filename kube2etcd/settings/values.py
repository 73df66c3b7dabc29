"""How one value of text or YAML is read.

Each converter gives what the tree holds, or a `Fault` that says what to write instead.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from kube2etcd.external import Domain, InvalidDomain
from kube2etcd.selectors import InvalidSelector, Selector
from kube2etcd.settings.tree import HostPort, Network
from skydns_compat.names import Address, InvalidAddress, InvalidName, Name, parse_address

#: The largest TTL that DNS knows (RFC 2181 section 8).
MAX_TTL: Final = 2**31 - 1


class Fault(ValueError):
    """A value that cannot be used; the message says what to write instead."""


Convert = Callable[[Any], Any]


def to_text(value: Any) -> str:
    """Text as it is."""
    if not isinstance(value, str):
        raise Fault(f"is {called(value)}; write text" + (" in quotes" if is_scalar(value) else ""))
    return value


def to_file(value: Any) -> str:
    """The path of a file."""
    text = to_text(value)
    if not text or not text.isprintable():
        raise Fault(f"is {text!r}, which is no file name; write a path")
    return text


def is_scalar(value: Any) -> bool:
    """Whether YAML read this as something that quotes would make text."""
    return isinstance(value, bool | int | float)


def called(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes or no)"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


def to_one_of(*words: str) -> Convert:
    """One of these words."""

    def convert(value: Any) -> str:
        text = str(value).lower() if not isinstance(value, bool) else ""
        if text not in words:
            raise Fault(f"is {called(value)}; write {to_either(words)}{did_you_mean(text, words)}")
        return text

    return convert


def to_either(words: tuple[str, ...]) -> str:
    """The words as a choice in a sentence."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def did_you_mean(text: str, known: tuple[str, ...]) -> str:
    """The closest of the ``known`` words as the end of a sentence; empty where none is close."""
    flat = text.replace("-", "_").lower()
    close = difflib.get_close_matches(flat, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def to_integer(low: int, high: int, what: str) -> Convert:
    """A whole number from ``low`` to ``high``; ``what`` is its unit in words."""

    def convert(value: Any) -> int:
        text = str(value).strip()
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else low - 1
        if isinstance(value, bool) or not low <= number <= high:
            raise Fault(f"is {called(value)}; write {what} from {low} to {high}")
        return number

    return convert


_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def to_duration(low: float, high: float) -> Convert:
    """Seconds from ``low`` to ``high``, of ``90``, ``90s``, ``2m`` or ``1h``."""

    def convert(value: Any) -> float:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if isinstance(value, bool) or not low <= seconds <= high:
            raise Fault(
                f"is {called(value)}; write seconds from {low:g} to {high:g}, or a duration such as 5m"
            )
        return seconds

    return convert


def to_boolean(value: Any) -> bool:
    """Yes or no."""
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise Fault(f"is {called(value)}; write true or false")


def to_not(value: Any) -> bool:
    """Yes or no, turned round."""
    return not to_boolean(value)


def to_name(value: Any) -> Name:
    """A DNS name."""
    try:
        return Name.parse(to_text(value).strip())
    except InvalidName as error:
        raise Fault(
            f"is {value!r}, which is no DNS name ({error}); write one such as cluster.local"
        ) from None


def to_domain(value: Any) -> Domain:
    """A domain: itself and all below it, or with a dot in front only what is below."""
    try:
        return Domain.parse(to_text(value))
    except InvalidDomain as error:
        raise Fault(f"cannot be used: {error}") from None


def to_vm_domain(value: Any) -> str:
    """The parent of the machines' zone; empty: none."""
    if value == "":
        return ""
    name = to_name(value)
    try:
        name.child("vm")
    except InvalidName as error:
        raise Fault(f"is too long to have vm. in front of it ({error})") from None
    return str(name)


def to_address(value: Any) -> Address:
    """An IPv4 or IPv6 address."""
    try:
        return parse_address(to_text(value).strip())
    except InvalidAddress:
        raise Fault(f"is {value!r}; write one IP address such as 10.96.0.10 or fd00::10") from None


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
        hint = f"; write [{text}]:8081 for an IPv6 address" if _is_v6(text) else ""
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
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            raise Fault(f"is {_hidden(text)}; write a URL such as {example}")
        if parts.username is not None or parts.password is not None:
            raise Fault("holds a user name or password; give them by options or files of their own")
        return text.rstrip("/")

    return convert


def _hidden(text: str) -> str:
    """The text as typed, less what may be a password."""
    return repr(re.sub(r"//[^/@]*@", "//***@", text))


def to_etcd_url(value: Any) -> str:
    """The URL of an etcd server: no path, no credentials."""
    url: str = to_url("http://127.0.0.1:2379")(value)
    if urlsplit(url).path:
        raise Fault(f"is {url!r}; write it without a path, such as http://127.0.0.1:2379")
    return url


def to_prefix(value: Any) -> str:
    """A prefix of keys: one segment."""
    text = to_text(value)
    if not re.fullmatch(r"/[A-Za-z0-9._-]+/?", text):
        # The servers make the targets of SRV from keys, and take exactly one part for the prefix.
        raise Fault(f"is {text!r}; write a path of one part, such as /skydns")
    return text.rstrip("/")


def to_state_prefix(value: Any) -> str:
    """A prefix of keys that nobody serves."""
    text = to_text(value)
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+/?", text):
        raise Fault(f"is {text!r}; write a path, such as /kube2etcd/webhook")
    return text.rstrip("/")


def to_bind(value: Any) -> str:
    """An address of this machine to listen on; ``0.0.0.0`` and ``::`` stand for all."""
    text = to_text(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
        raise Fault(f"is {value!r}; write an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    return text


def to_owner(value: Any) -> str:
    """An owner id."""
    text = to_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", text):
        raise Fault(f"is {text!r}; write up to 63 letters, digits, dots, hyphens or slashes")
    return text


def to_upstream(value: Any) -> str:
    """Where a Corefile forwards to."""
    text = to_text(value).strip()
    if not text or re.search(r"[{}\"#\n]", text):
        raise Fault(
            f"is {text!r}; write a resolv.conf file, or addresses such as 192.0.2.53 with blanks between"
        )
    return text


def to_template(value: Any) -> str:
    """A name of ``{service}`` and ``{namespace}``."""
    text = to_text(value)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Fault(f"is {text!r}, which is no template ({error}); write one such as {{service}}") from None
    fields = {name for _, name, _, _ in parts if name is not None}
    formatted = any(form or conversion for _, _, form, conversion in parts)
    if "service" not in fields or fields - {"service", "namespace"} or formatted:
        raise Fault(f"is {text!r}; write a template of {{service}} and {{namespace}}, with {{service}} in it")
    return text


def to_word(value: Any) -> str:
    """The name of a namespace (RFC 1123 label)."""
    text = to_text(value)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text) or len(text) > 63:
        raise Fault(f"is {text!r}, which cannot be the name of a namespace")
    return text


def to_selector(value: Any) -> str:
    """A label selector, checked."""
    text = to_text(value).strip()
    if not text:
        raise Fault("is empty; leave it out to select everything, or write one such as tier=web")
    try:
        Selector.parse(text)
    except InvalidSelector as error:
        raise Fault(f"cannot be used: {error}") from None
    return text
