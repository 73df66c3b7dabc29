"""Values of settings, label selectors among them, and their readers; a `Fault` says what to write instead."""

from __future__ import annotations

import contextlib
import difflib
import functools
import ipaddress
import re
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from kube2etcd.external import Domain
from skydns_compat.names import InvalidAddress, InvalidName, Name, parse_address, servable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where managed clusters let users mount their own server blocks.
CUSTOM_BLOCKS: Final = "/etc/coredns/custom/*.server"


class HostPort(msgspec.Struct, frozen=True):
    """A listen address; an empty host means all addresses of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})\Z")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)\Z")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})\Z")
_PARTS = re.compile(r",(?![^()]*\))")


class Selector(msgspec.Struct, frozen=True):
    """A label selector with the syntax of kubectl; without requirements it matches everything."""

    requirements: tuple[tuple[str, bool, frozenset[str] | None], ...] = ()
    """Label, whether negated, and its values; None: the label must just exist."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` meet every requirement; a missing label meets negated ones."""
        return all(
            (key in labels if values is None else labels.get(key) in values) != negated
            for key, negated, values in self.requirements
        )

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse a selector such as ``tier in (web, api), !hidden``; ValueError says what is wrong."""
        if not text.strip():
            return cls()
        return cls(tuple(_requirement(part.strip()) for part in _PARTS.split(text)))


EVERYTHING = Selector()


def _requirement(text: str) -> tuple[str, bool, frozenset[str] | None]:
    if found := _EQUAL.match(text):
        return found[1], found[2] == "!=", frozenset({found[3]})
    if found := _SET.match(text):
        values = frozenset(value.strip() for value in found[3].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return found[1], found[2] == "notin", values
    elif found := _EXISTS.match(text):
        return found[2], bool(found[1]), None
    raise ValueError(f"{text!r} is not a label requirement; write key=value, key in (a, b), key or !key")


class Fault(ValueError):
    """An invalid value; the message says what to write instead."""


Convert = Callable[[Any], Any]
_T = TypeVar("_T")


def _reads(
    metavar: str, hint: str = "", form: Mapping[str, Any] | None = None, *, scalars: bool = False
) -> Callable[[Callable[[str], _T]], Callable[[Any], _T]]:
    """Turn a function that parses stripped text, or raises `ValueError`, into a converter.

    ``metavar`` is the placeholder in ``--help``; ``hint`` says what to write instead of a bad value (default:
    the error does); ``form`` is the JSON Schema in the Helm chart; ``scalars``: YAML's need no quotes.
    """

    def decorate(parse: Callable[[str], _T]) -> Callable[[Any], _T]:
        @functools.wraps(parse)
        def read(value: Any) -> _T:
            scalar = isinstance(value, bool | int | float)
            if not isinstance(value, str) and not (scalar and scalars):
                text = "write text in quotes" if scalar else "write text"
                raise Fault(f"is {called(value)}; {hint if scalars and hint else text}")
            try:
                return parse((str(value).lower() if isinstance(value, bool) else str(value)).strip())
            except Fault:
                raise
            except ValueError as error:
                why = f"is {called(value)}; {hint}" if hint else f"cannot be used: {error}"
                raise Fault(why) from None

        vars(read).update(metavar=metavar, form=form or {"type": "string"})
        return read

    return decorate


def called(value: Any) -> str:
    """A description of a YAML value, for an error message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (yes or no)"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return re.sub("://.*@", "://***@", repr(value))  # credentials


def either(words: tuple[str, ...]) -> str:
    """``a, b or c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def did_you_mean(text: str, known: Collection[str], near: float = 0.6) -> str:
    """``; did you mean …?`` with the closest of the ``known`` words; empty if none is close.

    If ``known`` is a mapping, its values are suggested instead of its keys.  ``near`` is the minimum
    similarity; 1 means equal.
    """
    suggested = known if isinstance(known, Mapping) else {word: word for word in known}
    flat = {word.lower(): suggestion for word, suggestion in suggested.items()}
    close = difflib.get_close_matches(text.replace("-", "_").lower(), flat, 1, near)
    return f"; did you mean {flat[close[0]]}?" if close else ""


def spelled(key: Any) -> str:
    """A key as it was probably typed, on one line."""
    text = str(key).lower() if isinstance(key, bool) else str(key)
    return text if text.isprintable() else repr(text)


@_reads("NAME")
def to_text(text: str) -> str:
    """Any text."""
    return text


@_reads("FILE", form={"type": "string", "minLength": 1})
def to_file(text: str) -> str:
    """A file's path."""
    if not text or not text.isprintable():
        raise Fault(f"is {text!r}, which is not a file name; write a path")
    return text


def _matching(metavar: str, pattern: str, hint: str) -> Callable[[Any], str]:
    """A converter for text that fully matches ``pattern``; returns its first group."""

    @_reads(metavar, hint, {"type": "string", "pattern": f"^{pattern}$"})
    def convert(text: str) -> str:
        if match := re.fullmatch(pattern, text):
            return match[1]
        raise ValueError

    return convert


def to_one_of(*words: str) -> Convert:
    """One of these words."""

    @_reads("|".join(words), f"write {either(words)}", {"enum": [*words]}, scalars=True)
    def convert(text: str) -> str:
        if text.lower() in words:
            return text.lower()
        if text in ("true", "false"):  # perhaps no or off in YAML
            raise ValueError
        raise Fault(f"is {text!r}; write {either(words)}{did_you_mean(text.lower(), words)}")

    return convert


def to_integer(low: int, high: int, what: str, metavar: str = "SECONDS") -> Convert:
    """An integer from ``low`` to ``high``; ``what`` names it in the fault, ``metavar`` in ``--help``."""

    form = {"type": "integer", "minimum": low, "maximum": high}

    @_reads(metavar, f"write {what} from {low} to {high}", form, scalars=True)
    def convert(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,18}", text) and low <= int(text) <= high:
            return int(text)
        raise ValueError

    return convert


_DURATION: Final = r"([0-9]+(?:\.[0-9]+)?)([smh]?)"
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def to_duration(low: float, high: float) -> Convert:
    """Seconds from ``low`` to ``high``, written ``90``, ``90s``, ``2m`` or ``1h``."""
    form = {"type": ["number", "string"], "minimum": low, "maximum": high, "pattern": f"^{_DURATION}$"}
    hint = f"write seconds from {low:g} to {high:g}, or a duration such as 5m"

    @_reads("SECONDS", hint, form, scalars=True)
    def convert(text: str) -> float:
        match = re.fullmatch(_DURATION, text)
        seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
        if low <= seconds <= high:
            return seconds
        raise ValueError

    return convert


@_reads("true|false", "write true or false", {"type": "boolean"}, scalars=True)
def to_boolean(text: str) -> bool:
    """A boolean, in YAML's spellings."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError


@_reads("NAME", form={"type": "string", "pattern": r"^[^\s/]+$"})
def to_name(text: str) -> Name:
    """A DNS name."""
    try:
        return servable(Name.parse(text))
    except InvalidName as error:
        hint = "" if text.isascii() else ", other letters in their form of xn--"
        raise Fault(
            f"is {text!r}, which is not a DNS name ({error}); write one such as cluster.local{hint}"
        ) from None


#: A domain with its subdomains; with a leading dot, its subdomains only.
to_domain: Final = _reads("A,B")(Domain.parse)


@_reads("DOMAIN")
def to_vm_domain(text: str) -> str:
    """The parent domain of the vm zone; empty for the root."""
    if not text:
        return ""
    name = to_name(text)
    try:
        name.child("vm")
    except InvalidName as error:
        raise Fault(f"is too long to have vm. in front of it ({error})") from None
    return str(name)


#: A key prefix of one segment: CoreDNS and SkyDNS strip exactly one when they turn keys into SRV targets.
to_prefix: Final = _matching("PATH", r"(/[A-Za-z0-9._-]+)/?", "write a path of one part, such as /skydns")
#: A key prefix outside the served keys.
to_state_prefix: Final = _matching(
    "PATH", r"((?:/[A-Za-z0-9._-]+)+)/?", "write a path, such as /kube2etcd/webhook"
)
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
    "ADDR", r"([A-Za-z0-9._:-]+)", "write an address of this machine, such as 127.0.0.1 or 0.0.0.0"
)


@_reads("GLOB")
def to_glob(text: str) -> str:
    """A glob for the Corefile's ``import``; empty for `CUSTOM_BLOCKS`."""
    if not text:
        return CUSTOM_BLOCKS
    if re.search(r"[\s{}\"#]", text) or not text.startswith("/"):
        raise Fault(f"is {text!r}; write a full path without blanks, such as {CUSTOM_BLOCKS}")
    # CoreDNS accepts a glob without matches, but does not start if a file named without a glob is missing.
    if text.count("*") != 1:
        raise Fault(f"is {text!r}; write a pattern with one * in it, such as {CUSTOM_BLOCKS}")
    return text


@_reads("TEXT")
def to_template(text: str) -> str:
    """A name template of ``{service}`` and ``{namespace}``."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise Fault(f"is {text!r}, not a template ({error}); write one such as {{service}}") from None
    fields = {name for _, name, _, _ in parts if name is not None}
    formatted = any(form or conversion for _, _, form, conversion in parts)
    if "service" not in fields or fields - {"service", "namespace"} or formatted:
        raise Fault(f"is {text!r}; write a template of {{service}} and {{namespace}}, with {{service}} in it")
    return text


@_reads("TEXT")
def to_selector(text: str) -> Selector:
    """A label selector."""
    if not text:
        raise Fault("is empty; leave it out to select everything, or write one such as tier=web")
    return Selector.parse(text)


to_address: Final = _reads(
    "IP",
    "write one IP address such as 10.96.0.10 or fd00::10, without brackets",
    {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
)(parse_address)


@_reads(
    "CIDR",
    "write one network such as 10.10.0.0/16 or fd00:5::/64",
    {"type": "string", "pattern": r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"},
)
def to_network(text: str) -> Network:
    """A network in CIDR form, without host bits."""
    return ipaddress.ip_network(text)


_LISTENER: Final = {
    "type": ["string", "integer"],
    "minimum": 0,
    "maximum": 65535,
    "pattern": r"^(\[[0-9A-Fa-f:.]+\]:|[^:\[\]\s/]*:)?[0-9]{1,5}$",
}


def _host_port(text: str) -> HostPort:
    match = re.fullmatch(r"(?:\[([^\]]*:[^\]]*)\]:|([^:\[\]\s/]*):)?([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError
    host = match[1] or match[2] or ""
    if match[1] or re.fullmatch(r"[0-9.]+", host):
        ipaddress.ip_address(host)
    return HostPort(host, int(match[3]))


#: ``HOST:PORT``, ``:PORT``, ``[::]:PORT`` or a port alone.
parse_host_port: Final = _reads(
    "HOST:PORT",
    "write HOST:PORT, :PORT or [IPV6]:PORT with a port up to 65535, an IPv6 address in brackets: [::1]:8081",
    _LISTENER,
    scalars=True,
)(_host_port)


@_reads("HOST:PORT", form={**_LISTENER, "pattern": f"({_LISTENER['pattern']})|^$"}, scalars=True)
def to_listener(text: str) -> HostPort | None:
    """A listen address, as in `parse_host_port`; empty to disable the listener."""
    return parse_host_port(text) if text else None


def _server(text: str) -> HostPort:
    with contextlib.suppress(InvalidAddress):
        return HostPort(str(parse_address(text)), 53)
    found = _host_port(text)
    return HostPort(str(parse_address(found.host)), found.port)


#: ``ADDRESS`` or ``ADDRESS:PORT`` of a DNS server; port 53 by default.
to_resolver: Final = _reads(
    "IP[:PORT]", "write the IP address of a DNS server, such as 10.96.0.10, 10.96.0.10:53 or [fd00::10]:53"
)(_server)


_URL: Final = {"type": "string", "pattern": "^https?://[!-~]+$"}


def to_url(example: str) -> Convert:
    """An http or https URL; ``example`` is shown in the fault."""

    @_reads("URL", form=_URL)
    def convert(text: str) -> str:
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            usable = usable and re.search(r"[^!-~]|[?#]", text) is None
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            hidden = re.sub(r"^(\w+://)?.*@", r"\1***@", text)  # credentials
            raise Fault(f"is {hidden!r}; write a URL such as {example}{_url_hint(text)}")
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
        return "; write an IPv6 address in brackets, such as http://[::1]:2379"
    if not slashes:
        return ", with http:// or https:// in front"
    if port is not None and int(port[1]) > 65535:
        return ", with a port up to 65535"
    return ", without ? and #" if re.search("[?#]", text) else ""


@_reads("URL", form=_URL)
def to_etcd_url(text: str) -> str:
    """The URL of an etcd server: no path, no credentials."""
    url: str = to_url("http://127.0.0.1:2379")(text)
    parts = urlsplit(url)
    if parts.path:
        raise Fault(f"is {url!r}; write it without a path, such as http://127.0.0.1:2379")
    if parts.port == 0 or re.search("[%,;]", parts.hostname or ""):
        raise Fault(f"is {url!r}, with a bad host or port; write one such as http://127.0.0.1:2379")
    return url


@_reads(
    "FILE|IP…",
    "write a file such as /etc/resolv.conf, addresses such as 192.0.2.53 with blanks between, or none",
)
def to_upstream(text: str) -> str:
    """The arguments of CoreDNS's ``forward``: files or addresses, no host names; or ``none``."""
    if not text or re.search(r"[{}\"#\n]", text):
        raise ValueError
    for word in [] if text == "none" else text.split():
        if "/" not in word:
            _server(word)
    return text
