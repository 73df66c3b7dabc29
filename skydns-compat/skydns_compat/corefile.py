"""The Corefile that completes the keys: one server block a zone, as data and as text.  Pure.

`blocks` decides what CoreDNS has to do that keys alone cannot say: deny names that cannot exist without a
read, and keep questions above the Services from reading whole subtrees.  `corefile` prints the blocks, and
`skydns_compat.reader_served` answers from them, so the text and the model cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from skydns_compat.layout import EMPTY_NAMES, OWN
from skydns_compat.names import Name
from skydns_compat.nested import MAX_QUESTION, TARGET

#: The zones of reverse names (RFC 1035 section 3.5, RFC 3596 section 2.5).
REVERSE = (Name(("in-addr", "arpa")), Name(("ip6", "arpa")))
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
# Patterns are tried for every question that is not cached, so they are what Go matches fast: plain text, or
# anchored at the front without a choice between two ways to go on.
#: `*` and `any` are wildcards to the etcd plugin, `/` parts the levels of its keys.
_UNSAFE = (r"\*", "/", r"^any\.", r"\.any\.")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A ``rewrite name`` rule: ask etcd for another name.

    ``pattern`` is an RE2 expression over the lower-case name with its final dot; with ``suffix`` it is
    the name's literal end.  ``answers`` lists how names come back: the place (``name`` or ``value``), a
    pattern and a replacement; empty means ``answer auto``.  ``then`` goes on to the next rule.
    """

    pattern: str
    replacement: str
    answers: tuple[tuple[str, str, str], ...] = ()
    then: bool = False
    suffix: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A ``template`` that answers without a read; no patterns means every name.

    ``address`` is the TTL in seconds of an address that is written in the name (group ``a`` of the
    pattern), or None for a negative answer.  ``zone`` is another zone than the block's.
    """

    patterns: tuple[str, ...]
    rtype: str = "ANY"
    rcode: str = "NXDOMAIN"
    address: int | None = None
    zone: Name | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A server block.  ``only`` is the one type of its ``view``; ``etcd`` is whether it asks etcd at all.

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


@dataclass(frozen=True, slots=True)
class Subzone:
    """A zone beside the cluster's: names of ``depth`` labels hold data, those above are empty non-terminals.

    ``deeper`` is how many labels below such a name can hold data too; None is any number.
    ``ordered`` keeps the order of addresses that the keys give.  ``listen`` is a listener of its own.
    """

    zone: Name
    depth: int = 2
    deeper: int | None = 2
    wildcards: bool = False
    ordered: bool = False
    listen: str = ""
    name_server: bool = False


@dataclass(frozen=True, slots=True)
class CorefileSettings:
    """What a Corefile depends on.  Listeners are HOST:PORT or :PORT; an empty one is left out."""

    domain: Name
    etcd_servers: tuple[str, ...] = ("http://127.0.0.1:2379",)
    etcd_prefix: str = "/skydns"
    etcd_cafile: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    listen: str = ":53"
    upstream: str = "/etc/resolv.conf"
    """Where other names are asked; ``none`` serves the zones alone."""
    cache: int = 30
    """Seconds that answers are kept; 0 is no cache."""
    denial: int = 5
    """Seconds that NXDOMAIN and NODATA are kept: short, since a new name should appear soon."""
    ttl: int = 30
    pods: str = "disabled"
    health: str = ":8080"
    lameduck: int = 5
    """Seconds that the server still answers after SIGTERM, while clients learn of it."""
    ready: str = ":8181"
    prometheus: str = ":9153"
    subzones: tuple[Subzone, ...] = ()
    external: tuple[Name, ...] = ()
    """Zones whose names nest to any depth (`skydns_compat.nested`); none of them within another."""
    reverse: tuple[Name, ...] = REVERSE
    """Reverse zones; none where no zone here publishes PTR records."""
    cluster: bool = True
    """Whether the cluster's zone is served."""


def cluster_parts(zone: Name) -> tuple[Name, ...]:
    """Where the cluster's zone has its names: no other zone may be there or below."""
    return tuple(Name((label, *zone.labels)) for label in ("svc", "pod", "dns", "dns-version"))


def blocks(settings: CorefileSettings) -> tuple[Block, ...]:
    """The server blocks of the cluster zone, the zones beside it, and the reverse zones."""
    apex = _no_reads_at_apex(settings)
    made = [
        *([_cluster(settings, apex)] if settings.cluster else ()),
        *(_subzone(one, apex) for one in settings.subzones),
        *(_nested(zone) for zone in settings.external),
    ]
    return (*(_with_ds(block, made) for block in made), *_reverse(settings))


def _with_ds(block: Block, others: list[Block]) -> Block:
    """CoreDNS sends DS questions to the uppermost zone it serves, so that answers for zones below too."""
    ds = tuple(
        Template((), "DS", "NOERROR", zone=zone, why="DS of this zone's names is asked here")
        for other in others
        for zone in other.zones
        if zone != block.zones[0] and zone.below(block.zones[0]) and other.listen == block.listen
    )
    return replace(block, templates=(*ds, *block.templates))


def _cluster(settings: CorefileSettings, apex: tuple[Template, ...]) -> Block:
    zone = settings.domain
    below = rf"{_escaped(zone)}\.$"
    service, pod = rf"{_LABEL}\.{_LABEL}\.svc\.{below}", rf"\.{_LABEL}\.pod\.{below}"
    parts = "svc" if settings.pods == "disabled" else "svc|pod"
    rewrites = [
        _hidden(zone),
        Rewrite(
            rf"^({_LABEL})\.({parts})\.{below}",
            f"{{1}}.{{2}}.{EMPTY_NAMES}.{zone}.",
            why="Namespaces: a marker of their own says that they exist, without a read of all below them",
        ),
        _endpoint_targets(rf"{_LABEL}\.{_LABEL}\.svc\.{_escaped(zone)}"),
    ]
    deep, deeper = _too_deep(service)
    impossible = [
        # What search lists make comes first.  The last letters of svc, pod, dns, dns-version, and of nt_.
        deep,
        rf"[^cdns_]\.{below}",
        rf"([^v]c|[^o]d|[^n]s|[^o]n|[^t]_)\.{below}",
        deeper,
        *_UNSAFE,
        rf"^apex\.dns\.{below}",
    ]
    empty = [rf"^(svc|pod|dns)\.{below}", rf"^_(tcp|udp|sctp)\.{service}"]
    addresses: list[Template] = []
    if settings.pods == "disabled":
        impossible.append(rf"\.pod\.{below}")
    elif settings.pods == "verified":
        rewrites.insert(
            0,
            Rewrite(
                rf"^.+\.({_LABEL}\.{_LABEL}\.pod\.{_escaped(zone)})\.$",
                "{1}.",
                then=True,
                why="labels in front of a Pod's name are passed over, as by the kubernetes plugin",
            ),
        )
    else:
        for rtype, pattern in (("A", _IPV4), ("AAAA", _IPV6)):
            match = rf"^(.+\.)?(?P<a>{pattern}){pod}"
            empty.append(match)
            addresses.append(
                Template(
                    (match,),
                    rtype,
                    "NOERROR",
                    settings.ttl,
                    zone=zone.child("pod"),
                    why=f"Pods: {rtype} from the name itself",
                )
            )
    templates = (
        _no_soa(zone),
        Template(
            tuple(impossible),
            why="cannot exist: too many labels, not svc, pod, dns or dns-version, wildcards, key separators",
        ),
        *addresses,
        Template(
            tuple(empty), rcode="NOERROR", why="exist without data (RFC 8020), and would read all below them"
        ),
        *apex,
    )
    return Block((zone,), tuple(rewrites), templates, why="Services and Pods of the cluster")


def _subzone(one: Subzone, apex: tuple[Template, ...]) -> Block:
    zone = one.zone
    tail, below = _escaped(zone), rf"{_escaped(zone)}\.$"
    rewrites = []
    above = "|".join(r"\.".join([_LABEL] * count) for count in range(1, one.depth))
    if above:
        rewrites += [
            _hidden(zone),
            Rewrite(
                rf"^({above})\.{below}",
                f"{{1}}.{EMPTY_NAMES}.{zone}.",
                why="names above those with data: a marker of their own says that they exist",
            ),
        ]
    if one.name_server:
        back = (rf"^ns\.dns\.({tail})\.$", "ns.{1}.")
        rewrites.append(
            Rewrite(
                rf"^({tail})\.$",
                "{1}.",
                (("name", *back), ("value", *back)),
                why="the name server is ns, which the etcd plugin has at ns.dns",
            )
        )
    impossible = ["/"] if one.wildcards else [*_UNSAFE]
    if one.deeper is not None:
        rewrites.append(_endpoint_targets(r"\.".join([*[_LABEL] * one.depth, tail])))
        name = r"\.".join([*[_LABEL] * one.depth, below])
        impossible += [*_too_deep(name), rf"^_[^.]*\.{name}"]
    templates = (
        _no_soa(zone),
        Template(
            tuple(impossible), why="cannot exist: key separators, wildcards, more labels than names have"
        ),
        *apex,
    )
    return Block(
        (zone,), tuple(rewrites), templates, ordered=one.ordered, listen=one.listen, why=f"zone {zone}"
    )


def _nested(zone: Name) -> Block:
    tail = _escaped(zone)
    own = (rf"^{OWN}\.(.*{tail})\.$", "{1}.")
    rewrites = (
        Rewrite(
            # Shorter by the label in front and its dot than the longest name there is.
            rf"^(.{{1,{MAX_QUESTION}}})\.$",
            f"{OWN}.{{1}}.",
            (
                ("name", *own),
                ("value", *own),
                ("value", rf"^(.+)\.{TARGET}\.{OWN}\..*{tail}\.$", "{1}."),
            ),
            why="names nest: what a name has itself is at own_ below it, targets of SRV and MX end in tgt_",
        ),
    )
    templates = (
        Template((rf"^{OWN}\..+\.{tail}\.$",), "SOA", "NOERROR", why="the SOA record is at the apex alone"),
        Template(_UNSAFE, why="cannot exist: wildcards and key separators"),
    )
    return Block((zone,), rewrites, templates, why=f"external domain {zone}")


def _reverse(settings: CorefileSettings) -> tuple[Block, ...]:
    if not settings.reverse:
        return ()
    outside = settings.upstream != "none"
    pointers = Block(
        settings.reverse, only="PTR", fallthrough=outside, why="addresses to names: PTR, other types go on"
    )
    if outside:
        return (pointers,)
    # NXDOMAIN would deny the PTR record of the same name, too (RFC 8020).
    empty = Template((), rcode="NOERROR")
    return (pointers, Block(settings.reverse, templates=(empty,), etcd=False, why="no other type is here"))


def _escaped(zone: Name) -> str:
    """The zone as a literal of RE2: labels hold letters, digits, hyphens and underscores alone."""
    return str(zone).replace(".", r"\.")


def _hidden(zone: Name) -> Rewrite:
    return Rewrite(
        f"{EMPTY_NAMES}.{zone}.",
        f"none_.{zone}.",
        suffix=True,
        why="nobody asks for the markers' own names",
    )


def _endpoint_targets(name: str) -> Rewrite:
    """The SRV target that the etcd plugin makes from an endpoint's key, shortened to the endpoint's name.

    ``name`` is the pattern of a Service's name without the last dot.
    """
    back = (rf"^([^.]+)\._[^.]*\._[^.]+\.({name})\.$", "{1}.{2}.")
    return Rewrite(
        rf"^(_[^.]*\._[^.]+\.{name})\.$",
        "{1}.",
        (("name", *back), ("value", *back)),
        why="SRV targets are made from keys, ENDPOINT._port._proto.SERVICE: they are ENDPOINT.SERVICE",
    )


def _too_deep(name: str) -> tuple[str, ...]:
    """Four labels in front of a Service's name that do not begin as a port's, or more than two."""
    return rf"^[^_][^.]*\.{_LABEL}\.{name}", rf"^{_LABEL}\.{_LABEL}\.{_LABEL}\.(.+\.)?{name}"


def _no_soa(zone: Name) -> Template:
    return Template(
        (rf"^.+\.{_escaped(zone)}\.$",), "SOA", "NOERROR", why="the SOA record is at the apex alone"
    )


def _no_reads_at_apex(settings: CorefileSettings) -> tuple[Template, ...]:
    """The same in every block, so that one snippet serves all."""
    zones = [*([settings.domain] if settings.cluster else ()), *(one.zone for one in settings.subzones)]
    pattern = rf"^({'|'.join(map(_escaped, zones))})\.$"
    why = "at the apex these types would read the whole zone"
    return tuple(
        Template((pattern,), rtype, "NOERROR", why=why if rtype == "SRV" else "")
        for rtype in ("SRV", "TXT", "MX")
    )


def corefile(settings: CorefileSettings) -> str:
    """The text: snippets, the server blocks of `blocks`, and everything else to the upstream."""
    zone = f"--domain {settings.domain}" if settings.cluster else "--no-cluster-zone"
    lines = [
        f"# Made by: kube2etcd corefile {zone}",
        "# It completes the keys that kube2etcd writes; skydns-compat/README.md explains each line.",
        "",
        *_snippets(settings),
    ]
    once = list(_once(settings))
    made = blocks(settings)
    apex = _no_reads_at_apex(settings)
    shared = apex if sum(apex[0] in block.templates for block in made) > 1 else ()
    if shared:
        lines += ["(apex) {", *_indented(line for one in shared for line in _template(one, made[0])), "}"]
    for block in made:
        lines += ["", *_block(block, settings, once, shared)]
        once = []
    if settings.upstream != "none":
        lines += ["", "# every other name", f"{_where('.', settings.listen)} {{"]
        lines += _indented(
            [*_listen(settings.listen), "import common", "loop", f"forward . {settings.upstream}"]
        )
        lines.append("}")
    return "\n".join(lines) + "\n"


def _snippets(settings: CorefileSettings) -> Iterator[str]:
    common = ["errors"]
    if settings.prometheus:
        common.append(f"prometheus {settings.prometheus}")
    if settings.cache:
        denial = min(settings.denial, settings.cache)
        common += [f"cache {settings.cache} {{", f"    denial 9984 {denial}", "}"]
    if any(one.ordered for one in settings.subzones):
        yield from ("(ordered) {", *_indented(common), "}")
        common = ["import ordered"]
    yield from ("(common) {", *_indented([*common, "loadbalance"]), "}")
    yield from ("(etcd) {", *_indented(_etcd(settings)), "}")
    yield from ("(negative) {", *_indented(_negative("{{ .Zone }}")), "}")


def _once(settings: CorefileSettings) -> Iterator[str]:
    """What one server has once, in whichever block."""
    if settings.health:
        yield f"health {settings.health} {{"
        yield f"    lameduck {settings.lameduck}s"
        yield "}"
    if settings.ready:
        yield f"ready {settings.ready}"
    # The shortest that CoreDNS takes: a Corefile that `run --corefile` writes anew is served within 3 s.
    yield "reload 2s 1s"


def _where(zone: str, listen: str) -> str:
    """The server block's address: ``zone:port``; a listening host becomes a ``bind`` line."""
    return f"{zone}:{listen.rpartition(':')[2]}"


def _listen(listen: str) -> list[str]:
    host = listen.rpartition(":")[0].strip("[]")
    return [f"bind {host}"] if host else []


def _block(
    block: Block, settings: CorefileSettings, once: list[str], shared: tuple[Template, ...]
) -> Iterator[str]:
    zones = " ".join(map(str, block.zones))
    listen = block.listen or settings.listen
    yield f"# {block.why}"
    yield " ".join(_where(str(zone), listen) for zone in block.zones) + " {"
    lines = [*_listen(listen), *once]
    if block.only:
        lines += [f"view {block.only.lower()} {{", f"    expr type() == '{block.only}'", "}"]
    lines.append(f"import {'ordered' if block.ordered else 'common'}")
    if not block.only:
        lines.append("any")
    for rewrite in block.rewrites:
        lines += _rewrite(rewrite)
    for template in block.templates:
        if template not in shared:
            lines += _template(template, block)
    if set(shared) & set(block.templates):
        lines.append("import apex")
    if block.etcd:
        lines += [
            f"etcd {zones} {{",
            "    import etcd",
            *(["    fallthrough"] if block.fallthrough else []),
            "}",
        ]
    if block.fallthrough:
        lines.append(f"forward . {settings.upstream}")
    yield from _indented(lines)
    yield "}"


def _rewrite(rewrite: Rewrite) -> Iterator[str]:
    yield f"# {rewrite.why}"
    mode = "continue" if rewrite.then else "stop"
    rule = f"name {'suffix' if rewrite.suffix else 'regex'} {rewrite.pattern} {rewrite.replacement}"
    if rewrite.answers:
        answers = (f"answer {' '.join(answer)}" for answer in rewrite.answers)
        yield from (f"rewrite {mode} {{", *_indented([rule, *answers]), "}")
    else:
        yield f"rewrite {mode} {rule} answer auto"


def _negative(zone: str) -> Iterator[str]:
    ttl = NEGATIVE_TTL
    yield f'authority "{zone} {ttl} IN SOA ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 {ttl}"'
    yield "fallthrough"


def _template(template: Template, block: Block) -> Iterator[str]:
    yield from (f"# {line}" for line in template.why.splitlines())
    yield f"template ANY {template.rtype}{f' {template.zone}' if template.zone else ''} {{"
    yield from _matches(template.patterns)
    if template.address is None:
        if template.rcode == "NOERROR":
            yield "    import negative"
        else:
            # Spelled out: {{ .Zone }} would cost the names that are asked most a microsecond or two.
            yield f"    rcode {template.rcode}"
            yield from _indented(_negative(f"{block.zones[0]}."))
    else:
        separator = "." if template.rtype == "A" else ":"
        yield f'    answer "{{{{ .Name }}}} {template.address} IN {template.rtype} {_SPELLED % separator}"'
        yield "    fallthrough"
    yield "}"


def _matches(patterns: tuple[str, ...]) -> Iterator[str]:
    """Short patterns together on one line."""
    line = "    match"
    for pattern in patterns:
        if len(line) + len(pattern) > 100 and line != "    match":
            yield line
            line = "    match"
        line += f" {pattern}"
    if patterns:
        yield line


#: A Go template that writes group ``a`` with another separator than hyphens.
_SPELLED = (
    '{{ $a := .Group.a }}{{ range $i := len $a }}{{ $c := printf \\"%%.1s\\" (slice $a $i) }}'
    '{{ if eq $c \\"-\\" }}%s{{ else }}{{ $c }}{{ end }}{{ end }}'
)


def _etcd(settings: CorefileSettings) -> Iterator[str]:
    yield f"path {settings.etcd_prefix}"
    yield f"endpoint {' '.join(settings.etcd_servers)}"
    tls = [part for part in (settings.etcd_cert, settings.etcd_key, settings.etcd_cafile) if part]
    if tls:
        yield f"tls {' '.join(map(_word, tls))}"
    if settings.etcd_user:
        yield f"credentials {_word(settings.etcd_user)} {{$ETCD_PASSWORD}}"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _word(text: str) -> str:
    """The text as one word of the file, in quotes where it would else be several or a bracket."""
    if re.fullmatch(r"[^\s\"#{}]+", text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
