"""Parses targets of external endpoints, for the webhook, DNSEndpoint objects and the hosts file alike.

`parse_targets` reads one endpoint, `name_data` combines the endpoints of one name, `resolve` follows aliases
to addresses.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Final

import msgspec

from kube2etcd.external import MAX_TTL, Endpoint, is_heritage, is_ownership, plain_name
from skydns_compat.names import Address, Name, parse_address, version
from skydns_compat.records import Alias, Data, Host, Mail, Pointer, Srv, Text

#: Octets of one TXT record (RFC 1035 section 3.2.1).
MAX_TEXT: Final = 65535
#: Longest chain of aliases; CoreDNS gives up earlier.
MAX_ALIASES: Final = 32
#: Characters of an endpoint's targets up to which their parsing is cached.
MAX_CACHED: Final = 1024
#: The endpoints of a name (as `plain_name` gives it), the oldest first.
EndpointsOf = Callable[[str], Iterable[Endpoint]]


class Targets(msgspec.Struct, frozen=True):
    """The usable targets of one endpoint in the order posted, and a reason for each of the others."""

    data: tuple[Data, ...] = ()
    faults: tuple[str, ...] = ()


def parse_targets(rtype: str, targets: tuple[str, ...]) -> Targets:
    """Parse each target separately: an unusable one does not affect the others."""
    # An object may hold 1.5 MiB of targets: caching thousands of those would fill the memory.
    large = len(rtype) + len(targets) + sum(map(len, targets)) > MAX_CACHED
    return _parse(rtype, targets) if large else _parse_cached(rtype, targets)


def _parse(rtype: str, targets: tuple[str, ...]) -> Targets:
    if rtype not in PARSERS:
        return Targets(faults=(f"the type {brief(rtype)} is not supported",))
    if not targets:
        return Targets(faults=("it has no targets",))
    data: dict[Data, None] = {}
    faults = []
    for target in targets:
        if rtype == "TXT" and is_heritage(target):
            continue
        try:
            data[PARSERS[rtype](target)] = None
        except ValueError as error:
            faults.append(f"{brief(target)}: {brief_reason(str(error))}")
    return Targets(tuple(data), tuple(faults))


_parse_cached: Final = lru_cache(maxsize=4096)(_parse)


class NameData(msgspec.Struct):
    """The combined data of all endpoints of one name.

    A name with addresses is not an alias; a name has one alias, that of its oldest endpoint.  The data of
    each type are sorted by text; ``ttls`` in seconds by type.
    """

    addresses: list[Host] = []
    alias: Alias | None = None
    others: list[Data] = []
    """TXT, SRV, MX, and at most one PTR."""
    ttls: dict[str, int] = {}
    left_out: list[str] = []


def name_data(endpoints: Iterable[Endpoint], name: str, ttl: int = 0) -> NameData:
    """Combine all endpoints of ``name``, the oldest first; ``ttl`` is the default in seconds."""
    result = NameData()
    found: dict[str, dict[Data, None]] = {}
    for one in endpoints:
        if is_ownership(one):
            continue
        rtype = one.record_type
        if rtype == "NS":
            result.left_out.append(f"{name} NS: the server has no name servers but the zone's own")
            continue
        if not 0 <= one.ttl <= MAX_TTL:
            result.left_out.append(f"{name} {_plain(rtype)}: its TTL of {one.ttl} is not from 0 to {MAX_TTL}")
            continue
        targets = parse_targets(rtype, one.targets)
        for fault in targets.faults:
            # The fault of a single target begins with the target in quotes.
            separator = " " if fault[0] in "'\"" else ": "
            result.left_out.append(f"{name} {_plain(rtype)}{separator}{fault}")
        if targets.data:
            own = one.ttl or ttl
            # RFC 2181 section 5.2: one TTL for all records of a type, so the lowest.
            result.ttls[rtype] = min(own, result.ttls.get(rtype, own))
            found.setdefault(rtype, {}).update(dict.fromkeys(targets.data))
    result.addresses = [one for one in _sorted(found, "A", "AAAA") if isinstance(one, Host)]
    result.others = _sorted(found, *_OTHERS)
    pointers = _sorted(found, "PTR")
    result.others += pointers[:1]
    if len(pointers) > 1:
        result.left_out.append(f"{name} can have only one PTR record: {pointers[0]} is kept")
    aliases = [one for one in found.get("CNAME", ()) if isinstance(one, Alias)]
    if result.addresses:
        result.left_out += [f"{name} has addresses, so it cannot be an alias of {one}" for one in aliases]
    elif aliases:
        result.alias = aliases[0]
        result.left_out += [f"{name} can have only one alias, not also {one}" for one in aliases[1:]]
    return result


def _sorted(found: dict[str, dict[Data, None]], *types: str) -> list[Data]:
    return [data for rtype in types for data in sorted(found.get(rtype, ()), key=str)]


class Resolved(msgspec.Struct, frozen=True):
    """Result of following a chain of aliases: addresses, a ``loop``, ``too_long``, or a name elsewhere."""

    addresses: tuple[Address, ...] = ()
    loop: bool = False
    """The chain returns to the name itself."""
    too_long: bool = False


def resolve(name: str, alias: Alias, known: EndpointsOf) -> Resolved:
    """Follow ``alias`` of ``name`` through the ``known`` names, at most `MAX_ALIASES` of them."""
    seen: set[str] = set()
    target = str(alias.target)
    while target != name:
        if len(seen) >= MAX_ALIASES:
            return Resolved(too_long=True)
        onward = name_data(known(target), target)
        if onward.addresses:
            return Resolved(tuple(one.address for one in onward.addresses))
        if target in seen or onward.alias is None:
            return Resolved()
        seen.add(target)
        target = str(onward.alias.target)
    return Resolved(loop=True)


# --- one target ---------------------------------------------------------------------------------------


def _host(rtype: str, target: str) -> Host:
    host = Host(parse_address(target))
    if host.rtype != rtype:
        raise ValueError(f"it is an IPv{version(host.address)} address")
    return host


def _srv(target: str) -> Srv:
    (priority, weight, port), name = _numbered(target, 3, "PRIORITY WEIGHT PORT NAME")
    return Srv(priority, weight, port, name)


def _mail(target: str) -> Mail:
    (preference,), name = _numbered(target, 1, "PREFERENCE NAME")
    return Mail(preference, name)


def _text(target: str) -> Text:
    text = _unescaped(_joined(target.strip()))
    if not text:
        raise ValueError("an empty text")
    if len(text.encode(errors="replace")) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} octets")
    return Text(text)


def _name(target: str) -> Name:
    if target == ".":
        raise ValueError("the root is not a host name")
    name = Name.parse(plain_name(target))
    # The server would take it for an address and answer with the wrong type (RFC 1123 section 2.1).
    if re.fullmatch(r"[0-9.]+", str(name)):
        raise ValueError("an address where a name belongs")
    return name


def _numbered(target: str, count: int, form: str) -> tuple[list[int], Name]:
    """``count`` numbers of 16 bits and a name, separated by any blanks (RFC 1035 section 5.1)."""
    *texts, host = target.split() or [""]
    if len(texts) != count or not all(text.isascii() and text.isdigit() for text in texts):
        raise ValueError(f"not of the form {form}")
    numbers = [int(text.lstrip("0")[:6] or "0") for text in texts]
    if max(numbers) > 65535:
        raise ValueError("a number above 65535")
    return numbers, _name(host)


_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)


def _joined(text: str) -> str:
    """The strings of a TXT record as one text (RFC 1035 section 5.1, RFC 7208 section 3.3)."""
    if not text.startswith('"'):
        return text
    strings, at = [], 0
    while at < len(text):
        string = _STRING.match(text, at)
        if string is None:
            raise ValueError("its quotes do not match")
        strings.append(string[1])
        at = string.end()
    return "".join(strings)


def _unescaped(text: str) -> str:
    r"""``\"``, ``\\``, ``\;`` and ``\DDD`` as in a zone file (RFC 1035 section 5.1)."""
    if "\\" not in text:
        return text

    def octet(match: re.Match[bytes]) -> bytes:
        escaped = match[1]
        if len(escaped) == 3 and int(escaped) > 255:
            raise ValueError("an escape above 255")
        return bytes([int(escaped)]) if len(escaped) == 3 else escaped

    octets = text.encode("utf-8", "surrogatepass")
    if re.search(rb'(?<!\\)(?:\\\\)*\\(?:[^";\\0-9]|\Z|[0-9](?![0-9]{2}))', octets):
        raise ValueError('a backslash that escapes neither ", ;, \\ nor three digits')
    try:
        return re.sub(rb'\\([0-9]{3}|["\\;])', octet, octets).decode()
    except UnicodeDecodeError:
        raise ValueError("its escapes are not UTF-8") from None


#: The parser of a target by record type.  NS is only returned to ExternalDNS, since the server cannot
#: express it.
PARSERS: Final[Mapping[str, Callable[[str], Data]]] = {
    "A": partial(_host, "A"),
    "AAAA": partial(_host, "AAAA"),
    "CNAME": lambda target: Alias(_name(target)),
    "TXT": _text,
    "SRV": _srv,
    "MX": _mail,
    "PTR": lambda target: Pointer(_name(target)),
    "NS": lambda target: Pointer(_name(target)),
}
#: Types of which a name may have any number beside each other.
_OTHERS: Final = [rtype for rtype in PARSERS if rtype not in ("A", "AAAA", "CNAME", "PTR")]


def _plain(rtype: str) -> str:
    """A record type, which a client chose, for a log line: ASCII, at most 80 characters of it."""
    return ascii(rtype[:80])[1:-1]


def brief(text: str) -> str:
    """``text``, which a client chose, for a log line: quoted, ASCII, at most 80 characters of it."""
    return ascii(text) if len(text) <= 80 else ascii(text[:80]) + "..."


def brief_reason(text: str) -> str:
    """A parser's reason, replaced if long or unprintable, since it may quote what was posted."""
    return text if text.isascii() and text.isprintable() and len(text) <= 150 else "it cannot be parsed"
