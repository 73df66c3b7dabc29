"""The Corefile that completes the keys: one server block per zone, as data and as text.  Pure.

`blocks` has the rules that keys cannot express: impossible names are denied without a read, and names above
Services answered without reading whole subtrees.  `corefile` prints the blocks, and
`skydns_compat.reader_served` answers from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Literal

import msgspec

from skydns_compat.layout import EMPTY_NAMES, OWN
from skydns_compat.layout_external import MAX_QUESTION, TARGET
from skydns_compat.names import REVERSE, Name

#: TTL and minimum of the SOA record in negative answers (RFC 2308), as the etcd plugin has them.
NEGATIVE_TTL = 30

_LABEL = r"[^.]+"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = "[0-9a-f]{1,4}"
_IPV4 = rf"({_OCTET}-){{3}}{_OCTET}"
#: All eight groups, or `::` (two hyphens) in place of one or more of them.
_IPV6 = "|".join(
    [
        rf"({_GROUP}-){{7}}{_GROUP}",
        *(rf"({_GROUP}-){{{heads}}}-(({_GROUP}-){{0,{6 - heads}}}{_GROUP})?" for heads in range(1, 7)),
        rf"--(({_GROUP}-){{0,6}}{_GROUP})?",
        rf"({_GROUP}-){{7}}-",
    ]
)
# Patterns are tried for every uncached question, so they are fast in Go: plain text, or anchored at the start
# without alternatives.
#: `*` and `any` are wildcards to the etcd plugin, `/` separates the levels of its keys.
_UNSAFE = (r"\*", "/", r"^any\.", r"\.any\.")


class Rewrite(msgspec.Struct, frozen=True):
    """A ``rewrite name`` rule: ask etcd for another name.

    ``pattern`` is an RE2 expression for the lower-case name with its final dot; with ``suffix`` it is the
    name's literal end.  ``answers`` are the rewrites of the answer: place (``name`` or ``value``), pattern
    and replacement; empty means ``answer auto``.  ``then`` continues with the next rule.
    """

    pattern: str
    replacement: str
    answers: tuple[tuple[str, str, str], ...] = ()
    then: bool = False
    suffix: bool = False
    why: str = ""


class Template(msgspec.Struct, frozen=True):
    """A ``template`` that answers without a read; without patterns, for every name.

    ``address`` is the TTL in seconds of the address in the name (group ``a`` of the pattern), or None for a
    negative answer.  ``zone`` is a zone other than the block's.
    """

    patterns: tuple[str, ...]
    rtype: str = "ANY"
    rcode: Literal["NOERROR", "NXDOMAIN"] = "NXDOMAIN"
    address: int | None = None
    zone: Name | None = None
    why: str = ""


class Block(msgspec.Struct, frozen=True):
    """A server block.  ``only`` is the one type of its ``view``; ``etcd``: whether it asks etcd.

    ``fallthrough`` sends names that etcd does not have to the upstream.
    """

    zones: tuple[Name, ...]
    rewrites: tuple[Rewrite, ...] = ()
    templates: tuple[Template, ...] = ()
    only: str = ""
    etcd: bool = True
    fallthrough: bool = False
    ordered: bool = False
    listen: str = ""
    why: str = ""


class Subzone(msgspec.Struct, frozen=True):
    """A zone besides the cluster's: names of ``depth`` labels have data, those above are empty non-terminals.

    ``deeper`` is the number of label levels below such a name that can also have data; None is any.
    ``ordered`` keeps addresses in the order of the keys.  ``listen`` is a separate listener.
    """

    zone: Name
    depth: int = 2
    deeper: int | None = 2
    wildcards: bool = False
    ordered: bool = False
    listen: str = ""
    name_server: bool = False


class CorefileSettings(msgspec.Struct, frozen=True):
    """The settings of a Corefile.  Listeners are HOST:PORT or :PORT; an empty one is left out."""

    domain: Name
    etcd_servers: tuple[str, ...] = ("http://127.0.0.1:2379",)
    etcd_prefix: str = "/skydns"
    etcd_cafile: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    listen: str = ":53"
    upstream: str = "/etc/resolv.conf"
    """Server for all other names; ``none`` refuses them."""
    cache: int = 30
    """Seconds that answers are cached; 0 disables the cache."""
    ttl: int = 30
    pods: str = "disabled"
    health: str = ":8080"
    ready: str = ":8181"
    prometheus: str = ":9153"
    subzones: tuple[Subzone, ...] = ()
    external: tuple[Name, ...] = ()
    """Zones of any depth (`skydns_compat.layout_external`); none of them within another."""
    reverse: tuple[Name, ...] = REVERSE
    """Reverse zones; empty if no zone publishes PTR records."""
    cluster: bool = True
    """Whether the cluster's zone is served."""


def cluster_parts(zone: Name) -> tuple[Name, ...]:
    """The names above all others in the cluster's zone: no other zone may be at or below them."""
    return tuple(Name((label, *zone.labels)) for label in ("svc", "pod", "dns", "dns-version"))


def blocks(settings: CorefileSettings) -> tuple[Block, ...]:
    """The server blocks of the cluster zone, the zones beside it, and the reverse zones."""
    apex = _no_reads_at_apex(settings)
    made = [
        *([_cluster(settings, apex)] if settings.cluster else ()),
        *(_subzone(one, apex) for one in settings.subzones),
        *(_external(zone) for zone in settings.external),
    ]
    return (*(_with_ds(block, made) for block in made), *_reverse(settings))


def _with_ds(block: Block, others: list[Block]) -> Block:
    """CoreDNS sends DS questions to its topmost zone, so that block also answers for the zones below."""
    ds = tuple(
        Template((), "DS", "NOERROR", zone=zone, why="DS questions for the zone below come here")
        for other in others
        for zone in other.zones
        if zone != block.zones[0] and zone.below(block.zones[0]) and other.listen == block.listen
    )
    return msgspec.structs.replace(block, templates=(*ds, *block.templates))


def _cluster(settings: CorefileSettings, apex: tuple[Template, ...]) -> Block:
    zone, tail = settings.domain, _escaped(settings.domain)
    below = rf"{tail}\.$"
    service, pod = rf"{_LABEL}\.{_LABEL}\.svc\.{tail}", rf"{_LABEL}\.pod\.{tail}"
    namespaces = rf"^({_LABEL})\.({'svc' if settings.pods == 'disabled' else 'svc|pod'})\.{below}"
    rewrites = [*_markers(zone, namespaces, "{1}.{2}"), _endpoint_targets(service)]
    deep, deeper = _too_deep(service)
    # Names from search lists come first.  Last letters: those of svc, pod, dns, dns-version and nt_.
    impossible = [deep, rf"[^cdns_]\.{below}", rf"^apex\.dns\.{below}"]
    impossible += [rf"([^v]c|[^o]d|[^n]s|[^o]n)\.{below}", deeper, *_UNSAFE]
    computed: list[Template] = []
    match settings.pods:
        case "disabled":
            impossible.append(rf"\.pod\.{below}")
        case "verified":
            why = "ignore labels in front of a Pod's name, as the kubernetes plugin does"
            rewrites.insert(0, Rewrite(rf"^.+\.({_LABEL}\.{pod})\.$", "{1}.", then=True, why=why))
        case _:
            v4, v6 = (rf"^(.+\.)?(?P<a>{one})\.{pod}\.$" for one in (_IPV4, _IPV6))
            pods, why = zone.child("pod"), "Pods: addresses from the name; other types are NODATA"
            # Limited to a zone of their own, since they are slow in Go.
            computed = [
                Template((v4,), "A", "NOERROR", settings.ttl, pods, why),
                Template((v6,), "AAAA", "NOERROR", settings.ttl, pods),
                Template((v4, v6), "ANY", "NOERROR", zone=pods),
            ]
    empty = (rf"^(svc|pod|dns)\.{below}", rf"^_(tcp|udp|sctp)\.{service}\.$")
    why = "exist without data (RFC 8020); etcd would read all names below"
    templates = (
        _no_soa(rf"^.+\.{below}"),
        Template(
            tuple(impossible),
            why="cannot exist: too many labels, not svc, pod, dns or dns-version, wildcards, key separators",
        ),
        *computed,
        Template(empty, "ANY", "NOERROR", why=why),
        *apex,
    )
    return Block((zone,), tuple(rewrites), templates, why="Services and Pods of the cluster")


def _subzone(one: Subzone, apex: tuple[Template, ...]) -> Block:
    zone, tail = one.zone, _escaped(one.zone)
    rewrites: list[Rewrite] = []
    above = "|".join(r"\.".join([_LABEL] * count) for count in range(1, one.depth))
    if above:
        rewrites += _markers(zone, rf"^({above})\.{tail}\.$", "{1}")
    if one.name_server:
        why = "the name server is ns; the etcd plugin has it at ns.dns"
        rewrites.append(_renamed(rf"^({tail})\.$", rf"^ns\.dns\.({tail})\.$", "ns.{1}.", why))
    impossible = ["/"] if one.wildcards else [*_UNSAFE]
    if one.deeper is not None:
        name = r"\.".join([*[_LABEL] * one.depth, tail])
        rewrites.append(_endpoint_targets(name))
        impossible += [*_too_deep(name), rf"^_[^.]*\.{name}\.$"]
    why = "cannot exist: key separators, wildcards, more labels than names have"
    templates = (
        _no_soa(rf"^.+\.{tail}\.$"),
        Template(tuple(impossible), why=why),
        *apex,
    )
    return Block(
        (zone,), tuple(rewrites), templates, ordered=one.ordered, listen=one.listen, why=f"zone {zone}"
    )


def _external(zone: Name) -> Block:
    tail = _escaped(zone)
    own = (rf"^{OWN}\.(.*{tail})\.$", "{1}.")
    rewrite = Rewrite(
        # Leaves room for the label in front and its dot.
        rf"^(.{{1,{MAX_QUESTION}}})\.$",
        f"{OWN}.{{1}}.",
        (("name", *own), ("value", *own), ("value", rf"^(.+)\.{TARGET}\.{OWN}\..*{tail}\.$", "{1}.")),
        why="names nest: a name's own data are at own_ below it; targets of SRV and MX end in tgt_",
    )
    unsafe = Template(_UNSAFE, why="cannot exist: wildcards and key separators")
    templates = (_no_soa(rf"^{OWN}\..+\.{tail}\.$"), unsafe)
    return Block((zone,), (rewrite,), templates, why=f"external domain {zone}")


def _reverse(settings: CorefileSettings) -> tuple[Block, ...]:
    if not settings.reverse:
        return ()
    outside = settings.upstream != "none"
    why = "addresses to names: PTR only, the next block has other types"
    pointers = Block(settings.reverse, only="PTR", fallthrough=outside, why=why)
    if outside:
        return (pointers,)
    # NXDOMAIN would deny the PTR record of the same name, too (RFC 8020).
    empty = Template((), rcode="NOERROR")
    return (
        pointers,
        Block(settings.reverse, templates=(empty,), etcd=False, why="addresses to names: no other types"),
    )


def _escaped(zone: Name) -> str:
    """The zone as a literal of RE2: labels hold letters, digits, hyphens and underscores alone."""
    return str(zone).replace(".", r"\.")


def _markers(zone: Name, pattern: str, name: str) -> tuple[Rewrite, Rewrite]:
    """Rewrite matching names to their markers; hide the markers' own names."""
    markers = f"{EMPTY_NAMES}.{zone}."
    why = "names without data: a marker says that they exist; etcd would read all names below"
    return (
        Rewrite(markers, f"none_.{zone}.", suffix=True, why="hide the markers' own names"),
        Rewrite(pattern, f"{name}.{markers}", why=why),
    )


def _renamed(pattern: str, found: str, name: str, why: str) -> Rewrite:
    """In answers to matching questions, names that match ``found`` become ``name``."""
    return Rewrite(pattern, "{1}.", (("name", found, name), ("value", found, name)), why=why)


def _endpoint_targets(name: str) -> Rewrite:
    """The SRV target that the etcd plugin makes from an endpoint's key, shortened to the endpoint's name.

    ``name`` is the pattern of a Service's name without the last dot.
    """
    found = rf"^([^.]+)\._[^.]*\._[^.]+\.({name})\.$"
    why = "SRV targets come from keys, ENDPOINT._port._proto.SERVICE: shorten to ENDPOINT.SERVICE"
    return _renamed(rf"^(_[^.]*\._[^.]+\.{name})\.$", found, "{1}.{2}.", why)


def _too_deep(name: str) -> tuple[str, str]:
    """Patterns for two labels in front of a Service's name that are no port's, and for more than two."""
    return rf"^[^_][^.]*\.{_LABEL}\.{name}\.$", rf"^({_LABEL}\.){{3,}}{name}\.$"


def _no_soa(pattern: str) -> Template:
    return Template((pattern,), "SOA", "NOERROR", why="only the apex has an SOA record")


def _no_reads_at_apex(settings: CorefileSettings) -> tuple[Template, ...]:
    """The same templates in every block, so that they can be one snippet."""
    zones = [*([settings.domain] if settings.cluster else ()), *(one.zone for one in settings.subzones)]
    pattern = (rf"^({'|'.join(map(_escaped, zones))})\.$",)
    srv = Template(pattern, "SRV", "NOERROR", why="at the apex these types would read the whole zone")
    return (srv, Template(pattern, "TXT", "NOERROR"), Template(pattern, "MX", "NOERROR"))


def corefile(settings: CorefileSettings) -> str:
    """The text: snippets, the server blocks of `blocks`, and one for all other names."""
    made, apex = blocks(settings), _no_reads_at_apex(settings)
    shared = apex if sum(apex[0] in block.templates for block in made) > 1 else ()
    zone = f"--domain {settings.domain}" if settings.cluster else "--no-cluster-zone"
    lines = [
        f"# Made by: kube2etcd corefile {zone}",
        "# It completes the keys that kube2etcd writes; skydns-compat/README.md explains each line.",
        "",
        *_snippets(settings),
    ]
    if shared:
        lines += _braced("(apex)", [line for one in shared for line in _template(one)])
    # Plugins that may appear only once per server, in any block.
    once = []
    if settings.health:
        once += _braced(f"health {settings.health}", ["lameduck 5s"])
    if settings.ready:
        once.append(f"ready {settings.ready}")
    # The shortest that CoreDNS accepts: it serves what `run --corefile` wrote within 3 s.
    once.append("reload 2s 1s")
    for block in made:
        lines += ["", f"# {block.why}", *_block(block, settings, once, shared)]
        once = []
    if settings.upstream != "none":
        inside = ["import common", "loop", f"forward . {settings.upstream}"]
        lines += ["", "# every other name", *_server(["."], settings.listen, inside)]
    return "\n".join(lines) + "\n"


def _braced(head: str, inside: Iterable[str]) -> list[str]:
    return [f"{head} {{", *(f"    {line}" for line in inside), "}"]


def _server(zones: Iterable[object], listen: str, inside: Iterable[str]) -> list[str]:
    """A server block; the host of ``listen`` becomes a ``bind`` line."""
    host, _, port = listen.rpartition(":")
    bind = [f"bind {host.strip('[]')}"] if host else []
    return _braced(" ".join(f"{zone}:{port}" for zone in zones), [*bind, *inside])


def _snippets(settings: CorefileSettings) -> Iterator[str]:
    common = ["errors"]
    if settings.prometheus:
        common.append(f"prometheus {settings.prometheus}")
    if settings.cache:
        # Short, so that a new name appears soon.
        common += _braced(f"cache {settings.cache}", [f"denial 9984 {min(5, settings.cache)}"])
    if any(one.ordered for one in settings.subzones):
        yield from _braced("(ordered)", common)
        common = ["import ordered"]
    yield from _braced("(common)", [*common, "loadbalance"])
    etcd = [f"path {settings.etcd_prefix}", f"endpoint {' '.join(settings.etcd_servers)}"]
    if tls := [part for part in (settings.etcd_cert, settings.etcd_key, settings.etcd_cafile) if part]:
        etcd.append(f"tls {' '.join(map(_word, tls))}")
    if settings.etcd_user:
        etcd.append(f"credentials {_word(settings.etcd_user)} {{$ETCD_PASSWORD}}")
    yield from _braced("(etcd)", etcd)
    yield from _braced("(negative)", _negative("{{ .Zone }}"))


def _block(
    block: Block, settings: CorefileSettings, once: list[str], shared: tuple[Template, ...]
) -> list[str]:
    lines = list(once)
    if block.only:
        lines += _braced(f"view {block.only.lower()}", [f"expr type() == '{block.only}'"])
    lines.append(f"import {'ordered' if block.ordered else 'common'}")
    if not block.only:
        lines.append("any")
    for rewrite in block.rewrites:
        lines += _rewrite(rewrite)
    for template in block.templates:
        if template not in shared:
            lines += _template(template, f"{block.zones[0]}.")
    if set(shared) & set(block.templates):
        lines.append("import apex")
    if block.etcd:
        further = ["fallthrough"] if block.fallthrough else []
        lines += _braced(f"etcd {' '.join(map(str, block.zones))}", ["import etcd", *further])
    if block.fallthrough:
        lines.append(f"forward . {settings.upstream}")
    return _server(block.zones, block.listen or settings.listen, lines)


def _rewrite(rewrite: Rewrite) -> list[str]:
    mode = f"rewrite {'continue' if rewrite.then else 'stop'}"
    rule = f"name {'suffix' if rewrite.suffix else 'regex'} {rewrite.pattern} {rewrite.replacement}"
    answers = [f"answer {' '.join(answer)}" for answer in rewrite.answers]
    lines = _braced(mode, [rule, *answers]) if answers else [f"{mode} {rule} answer auto"]
    return [f"# {rewrite.why}", *lines]


def _negative(zone: str) -> list[str]:
    soa = f"IN SOA ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 {NEGATIVE_TTL}"
    return [f'authority "{zone} {NEGATIVE_TTL} {soa}"', "fallthrough"]


def _template(template: Template, zone: str = "") -> list[str]:
    # Short patterns share a line.
    matches = wrap(" ".join(template.patterns), 125, break_long_words=False, break_on_hyphens=False)
    lines = [f"match {line}" for line in matches]
    if template.address is not None:
        address = _SPELLED % ("." if template.rtype == "A" else ":")
        record = f"{{{{ .Name }}}} {template.address} IN {template.rtype} {address}"
        lines += [f'answer "{record}"', "fallthrough"]
    elif template.rcode == "NOERROR":
        lines.append("import negative")
    else:
        # Spelled out: {{ .Zone }} would cost a microsecond or two.
        lines += [f"rcode {template.rcode}", *_negative(zone)]
    of = f" {template.zone}" if template.zone else ""
    why = [f"# {template.why}"] if template.why else []
    return [*why, *_braced(f"template ANY {template.rtype}{of}", lines)]


#: A Go template that prints group ``a`` with the hyphens replaced.
_SPELLED = (
    '{{ $a := .Group.a }}{{ range $i := len $a }}{{ $c := printf \\"%%.1s\\" (slice $a $i) }}'
    '{{ if eq $c \\"-\\" }}%s{{ else }}{{ $c }}{{ end }}{{ end }}'
)


def _word(text: str) -> str:
    """The text as one word of the file, quoted if necessary."""
    if re.fullmatch(r"[^\s\"#{}]+", text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
