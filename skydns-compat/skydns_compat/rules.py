"""The rules in front of the keys: what a server must do that keys alone cannot say.

Three things: answer what cannot exist without reading etcd, keep the names above the services from
reading whole subtrees, and move the label ``any``, a wildcard to the reader, out of its way.

`blocks` is data.  `skydns_compat.corefile` writes it for CoreDNS, and `skydns_compat.reader_served`
answers from it, so the model and the server cannot drift apart.  Pure; knows no Kubernetes beyond the
shape of its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skydns_compat.computed_pods import computed_pods
from skydns_compat.layout import EMPTY_NAMES, OWN
from skydns_compat.names import Name
from skydns_compat.nested import MAX_QUESTION, TARGET
from skydns_compat.serverblock import Block, CorefileSettings, Rewrite, Subzone, Template

#: The types whose questions read a subtree by name; with PTR, NS and SOA all that clients ask.
SUBTREE_TYPES = ("A", "AAAA", "TXT", "SRV", "MX", "CNAME")
REVERSE_DENIED = (*SUBTREE_TYPES, "NS")
#: As CoreDNS's etcd plugin fills its SOA (RFC 2308: the last number is the negative TTL).
NEGATIVE_TTL = 30

_LABEL = r"[^.]+"


def blocks(settings: CorefileSettings) -> tuple[Block, ...]:
    """The server blocks for the cluster zone, the zones beside it, and the reverse zones."""
    return (
        *(_cluster(settings) if settings.cluster else ()),
        *(_subzone(one) for one in settings.subzones),
        *(_nested(zone) for zone in settings.external),
        *([_reverse(settings)] if settings.reverse else ()),
    )


def _cluster(settings: CorefileSettings) -> tuple[Block, ...]:
    zone = settings.domain
    below = _escaped(zone) + r"\.$"
    return (
        Block(
            zones=(zone.child("svc"),),
            backend=(zone,),
            rewrites=(
                *_underscores(zone),
                *(_any_rewrite(zone, "svc") for _ in range(3)),
                _existence("svc", zone),
                _any_in_answers(rf"svc\.{_escaped(zone)}"),
                _endpoint_targets(rf"svc\.{_escaped(zone)}"),
            ),
            templates=(
                _no_soa(zone),
                _no_text_above("svc", below),
                Template((rf"^svc\.{below}",), "NOERROR", why="above every namespace: exists, without data"),
                Template(_impossible_services(below), why="no form of the specification"),
            ),
            why="services",
        ),
        Block(
            zones=(zone.child("pod"),),
            backend=(zone,),
            rewrites=(
                _last_pod_label(zone),
                *(_any_rewrite(zone, "pod") for _ in range(2)),
                _existence("pod", zone),
            )
            if settings.pods != "disabled"
            else (),
            templates=tuple(_pod_templates(settings, below)),
            why=f"pods {settings.pods}",
        ),
        Block(
            zones=(zone.child("dns"), zone.child("dns-version")),
            backend=(zone,),
            templates=(
                _no_soa(zone),
                Template((rf"^dns\.{below}",), why="only a step to the name server"),
                Template((rf"^ns\.dns\.{below}",), types=("TXT", "PTR"), why="a name server has addresses"),
                Template(
                    (rf"^dns-version\.{below}",),
                    types=("A", "AAAA", "SRV", "MX", "CNAME", "PTR", "NS"),
                    why="the schema's version is text only",
                ),
                Template((rf"^.*\.dns-version\.{below}", r"(^|\.)(\*|any)\."), why="nothing below"),
            ),
            why="the zone's own names",
        ),
        Block(
            zones=(zone,),
            backend=(zone,),
            templates=(
                Template((rf"^{below}",), types=("TXT",), why="no text at the apex, and no read of the zone"),
                Template((rf"^{below}",), "NOERROR", ("SRV", "MX"), why="at the apex these read the zone"),
                _no_soa(zone),
                Template((rf"^.+\.{below}",), why="nothing else is in this zone"),
            ),
            why="the rest of the zone",
        ),
    )


def _reverse(settings: CorefileSettings) -> Block:
    return Block(
        zones=settings.reverse,
        backend=settings.reverse,
        templates=(
            Template((r"^(in-addr|ip6)\.arpa\.$",), types=("TXT",), why="no text at the apex"),
            Template((r"^(in-addr|ip6)\.arpa\.$",), "NOERROR", (*REVERSE_DENIED, "PTR"), why="the apex"),
            Template((".*",), types=REVERSE_DENIED, why="addresses have PTR only, others read subtrees"),
            Template((r"^.+\.(in-addr|ip6)\.arpa\.$",), "NOERROR", ("SOA",), why="the apex alone has SOA"),
        ),
        fallthrough=settings.upstream != "none",
        only_types=("PTR", "SOA", *REVERSE_DENIED),
        why="addresses back to names",
    )


def _subzone(one: Subzone) -> Block:
    zone, below = one.zone, _escaped(one.zone) + r"\.$"
    rewrites = () if one.wildcards else tuple(_any_rewrite(zone) for _ in range(3))
    above = "|".join(r"\.".join([_LABEL] * count) for count in range(1, one.depth))
    if above:
        rewrites += (Rewrite(rf"^({above})\.{below}", f"{{1}}.{EMPTY_NAMES}.{zone}."),)
    if one.name_server:
        rewrites += (
            Rewrite(rf"^({below[:-3]})\.$", "{1}.", back=(rf"^ns\.dns\.({below[:-3]})\.$", "ns.{1}.")),
        )
    templates = [
        Template((rf"^{below}",), "NOERROR", ("SRV", "TXT", "MX"), why="at the apex these read the zone"),
        _no_soa(zone),
    ]
    impossible = [] if one.wildcards else [r"(^|\.)\*\."]
    if one.deeper is not None:
        rewrites += () if one.wildcards else (_any_in_answers(_escaped(zone)),)
        rewrites += (_endpoint_targets(_escaped(zone)),)
        head = r"\.".join([_LABEL] * one.depth)
        impossible += [
            rf"^.+\.{_LABEL}\.{_LABEL}\.{head}\.{below}",
            rf"^[^_.][^.]*\.{_LABEL}\.{head}\.{below}",
            rf"^{_LABEL}\.[^_.][^.]*\.{head}\.{below}",
            rf"^_[^.]*\.{head}\.{below}",
        ]
    if impossible:
        templates.append(Template(tuple(impossible), why="no name of this zone"))
    return Block(
        zones=(zone,),
        backend=(zone,),
        rewrites=rewrites,
        templates=tuple(templates),
        ordered=one.ordered,
        listen=one.listen,
        why=f"zone {zone}",
    )


def _nested(zone: Name) -> Block:
    """Names that nest: each question goes to the name's own data, aside from what lies below it."""
    tail = _escaped(zone)
    return Block(
        zones=(zone,),
        backend=(zone,),
        rewrites=(
            _any_rewrite(zone),
            # Shorter by the label in front and its dot than the longest name there is.
            Rewrite(
                rf"^(.{{1,{MAX_QUESTION}}})\.$",
                f"{OWN}.{{1}}.",
                back=(rf"^{OWN}\.(.*{tail})\.$", "{1}."),
            ),
            Rewrite(r"^(.+)\.$", "{1}.", back=(rf"^(.+)\.{TARGET}\.{OWN}\..*{tail}\.$", "{1}.")),
            Rewrite(r"^(.+)\.$", "{1}.", back=(rf"^(|.*\.)any_\.(.*{tail})\.$", "{1}any.{2}.")),
        ),
        templates=(
            Template((rf"^{OWN}\..+\.{tail}\.$",), "NOERROR", ("SOA",), why="the apex alone has SOA"),
            Template(
                (r"(^|\.)(\*|any)\.", *_not_begun_with(f"{OWN}.")), why="no wildcards, no name too long"
            ),
        ),
        why=f"zone {zone}",
    )


def _not_begun_with(text: str) -> Iterator[str]:
    """Patterns for what begins otherwise: RE2 has no negative look ahead."""
    for at, character in enumerate(text):
        yield rf"^{re.escape(text[:at])}[^{character}]"


def _any_rewrite(zone: Name, part: str = "") -> Rewrite:
    """One label ``any``, a wildcard to the reader; used as often as a name can hold it."""
    tail = rf"{part}\.{_escaped(zone)}" if part else _escaped(zone)
    return Rewrite(
        rf"^(|.*\.)any\.(.*{tail})\.$",
        "{1}any_.{2}.",
        back=(rf"^(|.*\.)any_\.(.*{tail})\.$", "{1}any.{2}."),
    )


def _underscores(zone: Name) -> tuple[Rewrite, ...]:
    """``port.proto`` means ``_port._proto``, as the ``kubernetes`` plugin takes it.

    Of 63 letters it stays as it is: with an underscore it would be no label, and the server says SERVFAIL.
    """
    rest = rf"([^.]+\.[^.]+\.svc\.{_escaped(zone)})\.$"
    return (
        Rewrite(rf"^_?([^_.][^.]{{0,61}})\.(tcp|udp|sctp)\.{rest}", "_{1}._{2}.{3}.", then=True),
        Rewrite(rf"^([^_.][^.]{{0,61}})\._(tcp|udp|sctp)\.{rest}", "_{1}._{2}.{3}.", then=True),
    )


def _last_pod_label(zone: Name) -> Rewrite:
    """Labels in front of a pod's are passed over, as the ``kubernetes`` plugin does."""
    return Rewrite(rf"^.+\.([^.]+\.[^.]+\.pod\.{_escaped(zone)})\.$", "{1}.", then=True)


def _escaped(zone: Name) -> str:
    """The zone as a pattern, spelled as it is: a manifest has a mark there that sed fills in."""
    return rf"\Q{zone}\E"


def _existence(part: str, zone: Name) -> Rewrite:
    return Rewrite(rf"^({_LABEL})\.{part}\.{_escaped(zone)}\.$", f"{{1}}.{part}.{EMPTY_NAMES}.{zone}.")


def _endpoint_targets(tail: str) -> Rewrite:
    """The SRV target that the server makes from an endpoint's key, shortened to the endpoint's name."""
    return Rewrite(
        rf"^(_[^.]*\._[^.]+)\.(.*{tail})\.$",
        "{1}.{2}.",
        back=(rf"^([^.]+)\._[^.]*\._[^.]+\.(.+\.{tail})\.$", "{1}.{2}."),
    )


def _any_in_answers(tail: str) -> Rewrite:
    """The label ``any`` in answers to questions that do not hold it: an endpoint, a CNAME's target."""
    back = (rf"^(|.*\.)any_\.(.*{tail})\.$", "{1}any.{2}.")
    return Rewrite(rf"^(.+\.{tail})\.$", "{1}.", back=back)


def _no_text_above(part: str, below: str) -> Template:
    """No text at the names above services and pods, whether they exist or not: so without a read."""
    aside = rf"^{_LABEL}\.{part}\.{EMPTY_NAMES}\.{below}"
    return Template((rf"^{part}\.{below}", aside), types=("TXT",), why="no text above services and pods")


def _no_soa(zone: Name) -> Template:
    return Template((rf"^.+\.{_escaped(zone)}\.$",), "NOERROR", ("SOA",), why="the apex alone has SOA")


def _impossible_services(below: str) -> tuple[str, ...]:
    svc = rf"svc\.{below}"
    label = _LABEL
    return (
        r"(^|\.)\*\.",
        rf"^(.+\.)?{label}\.{label}\.{label}\.{label}\.{label}\.{svc}",
        rf"^[^_.][^.]*\.{label}\.{label}\.{label}\.{svc}",
        rf"^{label}\.[^_.][^.]*\.{label}\.{label}\.{svc}",
        rf"^_[^.]*\.{label}\.{label}\.{svc}",
        rf"^_[^.]*\.{label}\.{svc}",
    )


def _pod_templates(settings: CorefileSettings, below: str) -> Iterator[Template]:
    pod = rf"pod\.{below}"
    yield _no_soa(settings.domain)
    yield _no_text_above("pod", below)
    yield Template((rf"^{pod}",), "NOERROR", why="above every namespace: exists, without data")
    if settings.pods == "disabled":
        yield Template((rf"^.+\.{pod}",), why="pod names are switched off")
        return
    yield Template((r"(^|\.)\*\.",), why="no form of the specification")
    if settings.pods == "insecure":
        yield from computed_pods(pod, settings.ttl)
