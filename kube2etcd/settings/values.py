"""How one value of text or YAML is read: words, numbers, names; of what says where something is see `places`.

Each converter gives what the tree holds, or a `Fault` that says what to write instead.
"""

from __future__ import annotations

import re
import string
from typing import Any, Final

from kube2etcd.external import MAX_TTL as MAX_TTL
from kube2etcd.external import Domain, InvalidDomain
from kube2etcd.kube.selectors import InvalidSelector, Selector
from kube2etcd.settings.words import Convert, Fault, called, did_you_mean, either, is_scalar
from skydns_compat.names import InvalidName, Name, servable

#: Where managed clusters have people put server blocks of their own.
CUSTOM_BLOCKS: Final = "/etc/coredns/custom/*.server"


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


def to_one_of(*words: str) -> Convert:
    """One of these words."""

    def convert(value: Any) -> str:
        text = str(value).lower() if not isinstance(value, bool) else ""
        if text not in words:
            raise Fault(f"is {called(value)}; write {either(words)}{did_you_mean(text, words)}")
        return text

    return convert


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
        return servable(Name.parse(to_text(value).strip()))
    except InvalidName as error:
        hint = "" if value.isascii() else ", other letters in their form of xn--"
        raise Fault(
            f"is {value!r}, which is no DNS name ({error}); write one such as cluster.local{hint}"
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


def to_glob(value: Any) -> str:
    """A pattern of files that a Corefile imports; empty: the usual place."""
    if value == "":
        return CUSTOM_BLOCKS
    text = to_text(value)
    if re.search(r"[\s{}\"#]", text) or not text.startswith("/"):
        raise Fault(f"is {text!r}; write a full path without blanks, such as {CUSTOM_BLOCKS}")
    # CoreDNS passes over a pattern that matches nothing, and refuses to start without a file that is named.
    if text.count("*") != 1:
        raise Fault(f"is {text!r}; write a pattern with one * in it, such as {CUSTOM_BLOCKS}")
    return text


def to_owner(value: Any) -> str:
    """An owner id."""
    text = to_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", text):
        raise Fault(f"is {text!r}; write up to 63 letters, digits, dots, hyphens or slashes")
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
