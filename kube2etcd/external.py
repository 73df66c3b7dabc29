"""What ExternalDNS says: endpoints, how they are told apart, and the domains that are ours.

One vocabulary for whoever receives endpoints (the webhook, DNSEndpoint objects) and whoever makes
records of them.  Values only: an `Endpoint` may hold anything that was posted, since it must go back
unchanged; who publishes it decides what of it is usable.  Knows nothing of HTTP, keys or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from skydns_compat.names import InvalidName, Name, servable


class InvalidDomain(ValueError):
    """The text cannot be a managed domain; the message says why and what to write."""


class InvalidEndpoint(ValueError):
    """The value has not the shape of an endpoint; the message says what is wrong."""


class EndpointKey(NamedTuple):
    """What makes two endpoints the same one."""

    name: str
    """In lower case, without the last dot."""
    record_type: str
    set_identifier: str = ""


class Property(msgspec.Struct, frozen=True):
    """One provider-specific setting of an endpoint."""

    name: str
    value: str


class Endpoint(msgspec.Struct, frozen=True):
    """One record set as ExternalDNS has it; every text as posted.

    ``more`` holds fields that this version does not know: they go back as they came, too, since a
    client that finds one missing would send it again and again.
    """

    dns_name: str
    targets: tuple[str, ...] = ()
    record_type: str = ""
    set_identifier: str = ""
    ttl: int = 0
    """Seconds; 0: not set."""
    labels: dict[str, str] = {}
    provider_specific: tuple[Property, ...] = ()
    more: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The DNS name as it is compared: lower case, without the last dot."""
        return plain_name(self.dns_name)

    @property
    def key(self) -> EndpointKey:
        """Its identity."""
        return EndpointKey(self.name, self.record_type, self.set_identifier)

    def to_json(self) -> dict[str, Any]:
        """As ExternalDNS writes it: fields that are empty are left out, the name and targets never."""
        found: dict[str, Any] = {"dnsName": self.dns_name, "targets": list(self.targets)}
        found["recordType"] = self.record_type
        if self.set_identifier:
            found["setIdentifier"] = self.set_identifier
        if self.ttl:
            found["recordTTL"] = self.ttl
        if self.labels:
            found["labels"] = self.labels
        if self.provider_specific:
            found["providerSpecific"] = [
                {"name": one.name, "value": one.value} for one in self.provider_specific
            ]
        return found | self.more

    @classmethod
    def from_json(cls, value: object) -> Endpoint:
        """The endpoint that decoded JSON stands for; `InvalidEndpoint` for a wrong shape.

        Keys count in any letter case and null is empty, as Go reads them.
        """
        if type(value) is not dict:
            raise InvalidEndpoint(f"an endpoint is an object, not {_shown(value)}")
        fields: dict[str, Any] = {}
        more: dict[str, Any] = {}
        for key, found in value.items():
            known = _FIELDS.get(key) or _FIELDS.get(key.lower())
            if known is None:
                more[key] = found
            elif found is not None:
                name, read = known
                fields[name] = read(key, found)
        return cls(fields.pop("dns_name", ""), more=more, **fields)


def _text(key: str, value: object) -> str:
    if type(value) is not str:
        raise InvalidEndpoint(f"{key} is a string, not {_shown(value)}")
    return value


def _number(key: str, value: object) -> int:
    if type(value) is not int:
        raise InvalidEndpoint(f"{key} is an integer, not {_shown(value)}")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if type(value) is not list:
        raise InvalidEndpoint(f"{key} is a list, not {_shown(value)}")
    return tuple(_text(key, one) for one in value)


def _labels(key: str, value: object) -> dict[str, str]:
    if type(value) is not dict:
        raise InvalidEndpoint(f"{key} is an object, not {_shown(value)}")
    # As in Go, null in a map of strings is the empty string.
    return {name: "" if text is None else _text(key, text) for name, text in value.items()}


def _properties(key: str, value: object) -> tuple[Property, ...]:
    if type(value) is not list:
        raise InvalidEndpoint(f"{key} is a list, not {_shown(value)}")
    found = []
    for one in value:
        if type(one) is not dict:
            raise InvalidEndpoint(f"{key} holds objects, not {_shown(one)}")
        lower = {name.lower(): text for name, text in one.items()}
        found.append(
            Property(*("" if (text := lower.get(part)) is None else _text(key, text) for part in _PROPERTY))
        )
    return tuple(found)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


_PROPERTY = ("name", "value")
_Reader = Callable[[str, Any], Any]
_SPELLED: Mapping[str, tuple[str, _Reader]] = {
    "dnsName": ("dns_name", _text),
    "targets": ("targets", _texts),
    "recordType": ("record_type", _text),
    "setIdentifier": ("set_identifier", _text),
    "recordTTL": ("ttl", _number),
    "labels": ("labels", _labels),
    "providerSpecific": ("provider_specific", _properties),
}
_FIELDS = {**_SPELLED, **{key.lower(): field for key, field in _SPELLED.items()}}


def plain_name(text: str) -> str:
    """A DNS name as it is compared: lower case, without the last dot.

    Only in ASCII do letters have a case (RFC 4343): else the sign of Kelvin would be the letter k, and
    one name's records another's.
    """
    plain = text.lower() if text.isascii() else "".join(one.lower() if one.isascii() else one for one in text)
    return plain.removesuffix(".")


@dataclass(frozen=True, slots=True, order=True)
class Domain:
    """A domain whose names are ours: itself and all below it, or with ``only_below`` the latter alone."""

    name: Name
    only_below: bool = False

    def __str__(self) -> str:
        return f".{self.name}" if self.only_below else str(self.name)

    @classmethod
    def parse(cls, text: str) -> Domain:
        """The domain for ``a.b`` or ``.a.b``; `InvalidDomain` else."""
        plain = text.strip()
        only_below = plain.startswith(".")
        try:
            return cls(servable(Name.parse(plain.removeprefix("."))), only_below)
        except InvalidName as error:
            raise InvalidDomain(
                f"{_shown(text)} is no domain ({error}): write dtk.io, or .dtk.io for only what is below"
            ) from None

    def has(self, name: str) -> bool:
        """Whether ``name`` (as `plain_name` gives it) is one of this domain's."""
        own = str(self.name)
        return name.endswith(f".{own}") or (name == own and not self.only_below)


def managed(domains: Iterable[Domain], name: str) -> bool:
    """Whether one of ``domains`` has ``name``, in any letter case and with or without a last dot."""
    plain = plain_name(name)
    return any(domain.has(plain) for domain in domains)


def is_ownership(endpoint: Endpoint) -> bool:
    """Whether it is the registry's bookkeeping: kept and given back, never a name in DNS."""
    if endpoint.record_type != "TXT":
        return False
    return "ownedRecord" in endpoint.labels or any(
        target.strip().strip('"').startswith("heritage=") for target in endpoint.targets
    )
