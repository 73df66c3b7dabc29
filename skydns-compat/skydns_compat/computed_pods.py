"""Pod names whose address is in the name itself, as templates (specification, section 2.6).

The server computes the answer, so no key is read and none is needed.  What it may know: the two ways to
write an address as a label.  What it must never do: match a label whose text is no address, since the
server would say SERVFAIL for the record that it cannot make.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from skydns_compat.serverblock import Template

_LABEL = r"[^.]+"
_GROUP = "[0-9a-f]{1,4}"


def computed_pods(pod: str, ttl: int) -> Iterator[Template]:
    """What answers for the names ``<address>.<namespace>.<pod>`` from the name alone, in order.

    ``pod`` is the pattern of the zone's pod domain with its final dot, ``ttl`` in seconds.  IPv4 comes
    before IPv6, an existing name without that type before a name that holds no address.
    """
    octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    v4 = (rf"^(?P<a>{octet})-(?P<b>{octet})-(?P<c>{octet})-(?P<d>{octet})\.{_LABEL}\.{pod}",)
    dotted = "{{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
    yield Template(v4, "NOERROR", ("A",), f"{{{{ .Name }}}} {ttl} IN A {dotted}", why="pods insecure, IPv4")
    full = ("^" + "-".join(f"(?P<g{n}>{_GROUP})" for n in range(1, 9)) + rf"\.{_LABEL}\.{pod}",)
    colons = ":".join(f"{{{{ .Group.g{n} }}}}" for n in range(1, 9))
    yield Template(full, "NOERROR", ("AAAA",), f"{{{{ .Name }}}} {ttl} IN AAAA {colons}", why="IPv6 in full")
    short = tuple(_compressed(heads, pod) for heads in range(7))
    colons = _joined("h", 6) + "::" + _joined("t", 7)
    yield Template(short, "NOERROR", ("AAAA",), f"{{{{ .Name }}}} {ttl} IN AAAA {colons}", why="IPv6 with ::")
    yield Template((*v4, *full, *short), "NOERROR", why="the name exists, its other types are empty")
    yield Template((rf"^{_LABEL}\.{_LABEL}\.{pod}",), why="no address in the name")


def _compressed(heads: int, pod: str) -> str:
    """The IPv6 forms with ``heads`` groups before ``--`` and at most seven groups in all."""
    tail = ""
    for n in range(7 - heads, 0, -1):
        tail = f"(?:{'-' if n > 1 else ''}(?P<t{n}>{_GROUP}){tail})?"
    head = "-".join(f"(?P<h{n}>{_GROUP})" for n in range(1, heads + 1))
    return rf"^{head}--{tail}\.{_LABEL}\.{pod}"


def _joined(prefix: str, count: int) -> str:
    """A Go template that joins the groups which matched with colons."""
    return "".join(
        f"{{{{ if .Group.{prefix}{n} }}}}{':' if n > 1 else ''}{{{{ .Group.{prefix}{n} }}}}{{{{ end }}}}"
        for n in range(1, count + 1)
    )
