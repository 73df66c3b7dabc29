"""Readers of one value of text or YAML; a `Fault` says what to write instead."""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from kube2etcd.external import MAX_TTL, Domain, InvalidDomain
from kube2etcd.settings.selectors import InvalidSelector, Selector
from skydns_compat.names import Address, InvalidAddress, InvalidName, Name, parse_address, servable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where managed clusters let people mount server blocks of their own.
CUSTOM_BLOCKS: Final = "/etc/coredns/custom/*.server"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A listen address; an empty host means all addresses of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Fault(ValueError):
    """An invalid value; the message says what to write instead."""


Convert = Callable[[Any], Any]
_Reader = TypeVar("_Reader", bound=Convert)


def _shown(metavar: str, **form: Any) -> Callable[[_Reader], _Reader]:
    """Mark a reader with the placeholder of its value in ``--help`` and, unless every text will do, with the
    JSON Schema of what the Helm chart takes."""

    def mark(convert: _Reader) -> _Reader:
        vars(convert).update(metavar=metavar, form=form or {"type": "string"})
        return convert

    return mark


def is_scalar(value: Any) -> bool:
    """Whether quotes in the YAML would turn this value into text."""
    return isinstance(value, bool | int | float)


def called(value: Any) -> str:
    """A YAML value, described for an error message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes or no)"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


def either(words: tuple[str, ...]) -> str:
    """``a, b or c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def did_you_mean(text: str, known: Collection[str], near: float = 0.6) -> str:
    """``; did you mean …?`` with the closest of the ``known`` words; empty if none is close.

    If ``known`` is a mapping, its values are suggested instead of its keys.  ``near`` is the least
    similarity, up to 1 for equal.
    """
    flat = text.replace("-", "_")
    close = difflib.get_close_matches(flat, known, 1, near)
    close = close or difflib.get_close_matches(flat.lower(), known, 1, near)
    if not close:
        return ""
    return f"; did you mean {known[close[0]] if isinstance(known, Mapping) else close[0]}?"


def spelled(key: Any) -> str:
    """A key as it was probably typed, on one line."""
    text = str(key).lower() if isinstance(key, bool) else str(key)
    return text if text.isprintable() else repr(text)


@_shown("NAME")
def to_text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise Fault(f"is {called(value)}; write text" + (" in quotes" if is_scalar(value) else ""))
    return value


@_shown("FILE", type="string", minLength=1)
def to_file(value: Any) -> str:
    """A file's path."""
    text = to_text(value)
    if not text or not text.isprintable():
        raise Fault(f"is {text!r}, which is not a file name; write a path")
    return text


def _matching(metavar: str, pattern: str, hint: str) -> Callable[[Any], str]:
    """A reader of text that matches ``pattern`` as a whole; takes its first group."""

    @_shown(metavar, type="string", pattern=f"^{pattern}$")
    def convert(value: Any) -> str:
        text = to_text(value)
        match = re.fullmatch(pattern, text)
        if match is None:
            raise Fault(f"is {text!r}; {hint}")
        return match[1]

    return convert


def to_one_of(*words: str) -> Convert:
    """One of these words."""

    @_shown("|".join(words), enum=[*words])
    def convert(value: Any) -> str:
        text = str(value).lower() if not isinstance(value, bool) else ""
        if text not in words:
            raise Fault(f"is {called(value)}; write {either(words)}{did_you_mean(text, words)}")
        return text

    return convert


def to_integer(low: int, high: int, what: str, metavar: str = "SECONDS") -> Convert:
    """An integer from ``low`` to ``high``; ``what`` names it in the fault, ``metavar`` in ``--help``."""

    @_shown(metavar, type="integer", minimum=low, maximum=high)
    def convert(value: Any) -> int:
        text = str(value).strip()
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else low - 1
        if isinstance(value, bool) or not low <= number <= high:
            raise Fault(f"is {called(value)}; write {what} from {low} to {high}")
        return number

    return convert


_DURATION: Final = r"([0-9]+(?:\.[0-9]+)?)([smh]?)"
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def to_duration(low: float, high: float) -> Convert:
    """Seconds from ``low`` to ``high``, written ``90``, ``90s``, ``2m`` or ``1h``."""

    @_shown("SECONDS", type=["number", "string"], minimum=low, maximum=high, pattern=f"^{_DURATION}$")
    def convert(value: Any) -> float:
        match = re.fullmatch(_DURATION, str(value).strip())
        seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if isinstance(value, bool) or not low <= seconds <= high:
            raise Fault(
                f"is {called(value)}; write seconds from {low:g} to {high:g}, or a duration such as 5m"
            )
        return seconds

    return convert


@_shown("true|false", type="boolean")
def to_boolean(value: Any) -> bool:
    """A boolean, in YAML's spellings."""
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise Fault(f"is {called(value)}; write true or false")


def to_not(value: Any) -> bool:
    """A boolean, negated: the reader of ``--no-…``."""
    return not to_boolean(value)


@_shown("NAME", type="string", pattern=r"^[^\s/]+$")
def to_name(value: Any) -> Name:
    """A DNS name."""
    try:
        return servable(Name.parse(to_text(value).strip()))
    except InvalidName as error:
        hint = "" if value.isascii() else ", other letters in their form of xn--"
        raise Fault(
            f"is {value!r}, which is not a DNS name ({error}); write one such as cluster.local{hint}"
        ) from None


@_shown("A,B")
def to_domain(value: Any) -> Domain:
    """A domain with its subdomains; with a leading dot, its subdomains only."""
    try:
        return Domain.parse(to_text(value))
    except InvalidDomain as error:
        raise Fault(f"cannot be used: {error}") from None


@_shown("DOMAIN")
def to_vm_domain(value: Any) -> str:
    """The parent domain of the vm zone; empty for the root."""
    if value == "":
        return ""
    name = to_name(value)
    try:
        name.child("vm")
    except InvalidName as error:
        raise Fault(f"is too long to have vm. in front of it ({error})") from None
    return str(name)


#: A key prefix of one segment: CoreDNS and SkyDNS strip exactly one from the keys that become SRV targets.
to_prefix: Final = _matching("PATH", r"(/[A-Za-z0-9._-]+)/?", "write a path of one part, such as /skydns")
#: A key prefix outside the served keys.
to_state_prefix: Final = _matching(
    "PATH", r"((?:/[A-Za-z0-9._-]+)+)/?", "write a path, such as /kube2etcd/webhook"
)


@_shown("GLOB")
def to_glob(value: Any) -> str:
    """A glob for the Corefile's ``import``; empty for `CUSTOM_BLOCKS`."""
    if value == "":
        return CUSTOM_BLOCKS
    text = to_text(value)
    if re.search(r"[\s{}\"#]", text) or not text.startswith("/"):
        raise Fault(f"is {text!r}; write a full path without blanks, such as {CUSTOM_BLOCKS}")
    # CoreDNS accepts a glob without matches, but refuses to start if a file named without one is missing.
    if text.count("*") != 1:
        raise Fault(f"is {text!r}; write a pattern with one * in it, such as {CUSTOM_BLOCKS}")
    return text


#: An owner id.
to_owner: Final = _matching(
    "NAME", r"([A-Za-z0-9][A-Za-z0-9._/-]{0,62})", "write up to 63 letters, digits, dots, hyphens or slashes"
)
#: A namespace (RFC 1123 label).
to_word: Final = _matching(
    "NAMESPACE",
    r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)",
    "write the name of a namespace: lower-case letters, digits and hyphens",
)
#: A local address to listen on; ``0.0.0.0`` and ``::`` for all.
to_bind: Final = _matching(
    "ADDR", r"\s*([A-Za-z0-9._:-]+)\s*", "write an address of this machine, such as 127.0.0.1 or 0.0.0.0"
)


def to_template(value: Any) -> str:
    """A name template of ``{service}`` and ``{namespace}``."""
    text = to_text(value)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Fault(f"is {text!r}, not a template ({error}); write one such as {{service}}") from None
    fields = {name for _, name, _, _ in parts if name is not None}
    formatted = any(form or conversion for _, _, form, conversion in parts)
    if "service" not in fields or fields - {"service", "namespace"} or formatted:
        raise Fault(f"is {text!r}; write a template of {{service}} and {{namespace}}, with {{service}} in it")
    return text


def to_selector(value: Any) -> Selector:
    """A label selector."""
    text = to_text(value).strip()
    if not text:
        raise Fault("is empty; leave it out to select everything, or write one such as tier=web")
    try:
        return Selector.parse(text)
    except InvalidSelector as error:
        raise Fault(f"cannot be used: {error}") from None


@_shown("IP", type="string", anyOf=[{"format": "ipv4"}, {"format": "ipv6"}])
def to_address(value: Any) -> Address:
    """An IPv4 or IPv6 address."""
    try:
        return parse_address(to_text(value).strip())
    except InvalidAddress:
        hint = ", without brackets" if "[" in value else ""
        raise Fault(f"is {value!r}; write one IP address such as 10.96.0.10 or fd00::10{hint}") from None


@_shown("CIDR", type="string", pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")
def to_network(value: Any) -> Network:
    """A network in CIDR form, without host bits."""
    try:
        return ipaddress.ip_network(to_text(value).strip())
    except ValueError:
        raise Fault(f"is {called(value)}; write one network such as 10.10.0.0/16 or fd00:5::/64") from None


_LISTENER: Final = {
    "type": ["string", "integer"],
    "minimum": 0,
    "maximum": 65535,
    "pattern": r"^(\[[0-9A-Fa-f:.]+\]:|[^:\[\]\s/]*:)?[0-9]{1,5}$",
}


@_shown("HOST:PORT", **_LISTENER)
def parse_host_port(value: Any) -> HostPort:
    """``HOST:PORT``, ``:PORT``, ``[::]:PORT`` or a port alone; ``ValueError`` says what to write."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else to_text(value).strip()
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]:|(?P<host>[^:\[\]\s/]*):)?(?P<port>[0-9]{1,5})", text)
    digits = match is not None and re.fullmatch(r"[0-9.]+", match["host"] or "")
    if match is None or int(match["port"]) > 65535 or (digits and not _is_ip(digits[0])):
        bare = text.count(":") > 1 and "[" not in text
        hint = "; an IPv6 address stands in brackets, such as [::1]:8081" if bare else ""
        raise Fault(f"is {value!r}; write HOST:PORT, :PORT or [IPV6]:PORT with a port up to 65535{hint}")
    if match["six"] is not None and not (":" in match["six"] and _is_ip(match["six"])):
        raise Fault(f"is {value!r}; only an IPv6 address stands in brackets, such as [::1]:8081")
    return HostPort(match["six"] or match["host"] or "", int(match["port"]))


@_shown("HOST:PORT", **{**_LISTENER, "pattern": f"({_LISTENER['pattern']})|^$"})
def to_listener(value: Any) -> HostPort | None:
    """A listen address, as in `parse_host_port`; empty to disable the listener."""
    return None if isinstance(value, str) and not value.strip() else parse_host_port(value)


@_shown("IP[:PORT]")
def to_resolver(value: Any) -> HostPort:
    """``ADDRESS`` or ``ADDRESS:PORT`` of a DNS server; port 53 by default."""
    text = to_text(value).strip()
    try:
        return HostPort(str(parse_address(text)), 53)
    except InvalidAddress:
        pass
    try:
        found = parse_host_port(text)
        return HostPort(str(parse_address(found.host)), found.port)
    except (Fault, InvalidAddress):
        raise Fault(
            f"is {value!r}; write the IP address of a DNS server, with or without a port, such as 10.96.0.10,"
            " 10.96.0.10:53 or [fd00::10]:53"
        ) from None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_URL: Final = {"type": "string", "pattern": "^https?://[!-~]+$"}


def to_url(example: str) -> Convert:
    """An http or https URL; ``example`` is shown in the fault."""

    @_shown("URL", **_URL)
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
    """What to change in the URL, if recognizable."""
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
    """The text, with credentials masked."""
    return repr(re.sub(r"^(\w+://)?.*@", r"\1***@", text))


@_shown("URL", **_URL)
def to_etcd_url(value: Any) -> str:
    """The URL of an etcd server: no path, no credentials."""
    url: str = to_url("http://127.0.0.1:2379")(value)
    parts = urlsplit(url)
    if parts.path:
        raise Fault(f"is {url!r}; write it without a path, such as http://127.0.0.1:2379")
    if parts.port == 0 or re.search("[%,;]", parts.hostname or ""):
        raise Fault(f"is {url!r}, with a bad host or port; write one such as http://127.0.0.1:2379")
    return url


@_shown("FILE|IP…")
def to_upstream(value: Any) -> str:
    """The arguments of CoreDNS's ``forward``, or ``none``."""
    text = to_text(value).strip()
    if not text or re.search(r"[{}\"#\n]", text) or not (text == "none" or all(map(_forwards, text.split()))):
        raise Fault(
            f"is {text!r}; write a file such as /etc/resolv.conf, addresses such as 192.0.2.53 with blanks"
            " between, or none"
        )
    return text


def _forwards(word: str) -> bool:
    """Whether CoreDNS can forward to it: an address or a file, never a host name."""
    if "/" in word:
        return True
    try:
        to_resolver(word)
    except Fault:
        return False
    return True


#: Reads a TTL.
SECONDS: Final = to_integer(1, MAX_TTL, "whole seconds")
