"""The text of the Corefile that completes the keys: a server block per part of a zone.

What the blocks must do is decided in `skydns_compat.rules`; this is how CoreDNS is told.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from skydns_compat.names import Name
from skydns_compat.rules import NEGATIVE_TTL, blocks
from skydns_compat.serverblock import ANY_TYPE, REVERSE, Block, CorefileSettings, Rewrite, Subzone, Template

__all__ = [
    "ANY_TYPE",
    "REVERSE",
    "Block",
    "CorefileSettings",
    "Rewrite",
    "Subzone",
    "Template",
    "blocks",
    "corefile",
]


def corefile(settings: CorefileSettings) -> str:
    """The complete text: the zones of `blocks`, and everything else to the upstream."""
    zone = f"--domain {settings.domain}" if settings.cluster else "--no-cluster-zone"
    lines = [
        f"# Made by: kube2etcd corefile {zone}",
        "# It completes the keys that kube2etcd writes; see skydns-compat/README.md for each line.",
    ]
    doors = list(_doors(settings))
    for block in blocks(settings):
        lines += ["", *_block(block, settings, doors)]
        doors = []
    if settings.upstream != "none":
        lines += ["", "# every other name", f"{_where('.', settings.listen)} {{"]
        lines += [f"    {line}" for line in _common(settings, settings.listen)]
        lines += ["    loop", f"    forward . {settings.upstream}", "}"]
    return "\n".join(lines) + "\n"


def _doors(settings: CorefileSettings) -> Iterator[str]:
    """What there is once in a server, whichever block holds it."""
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


def _common(settings: CorefileSettings, listen: str, ordered: bool = False) -> list[str]:
    host = listen.rpartition(":")[0].strip("[]")
    lines = [f"bind {host}"] if host else []
    lines.append("errors")
    if settings.prometheus:
        lines.append(f"prometheus {settings.prometheus}")
    if not ordered:
        lines.append("loadbalance round_robin")
    if settings.cache:
        lines += [
            f"cache {settings.cache} {{",
            f"    denial 9984 {min(settings.denial, settings.cache)}",
            "}",
        ]
    return lines


def _block(block: Block, settings: CorefileSettings, doors: list[str]) -> Iterator[str]:
    yield f"# {block.why}"
    listen = block.listen or settings.listen
    yield " ".join(_where(str(zone), listen) for zone in block.zones) + " {"
    lines = [*doors, *_common(settings, listen, block.ordered)]
    if block.only_types:
        lines += [
            "acl {",
            *(f"    allow type {rtype}" for rtype in block.only_types),
            "    filter type *",
            "}",
        ]
    for rewrite in block.rewrites:
        lines += _rewrite(rewrite)
    for template in block.templates:
        for rtype in template.types:
            lines += _template(template, rtype, block.backend)
    lines += _etcd(block, settings)
    if block.fallthrough:
        lines.append(f"forward . {settings.upstream}")
    for line in lines:
        yield f"    {line}"
    yield "}"


def _rewrite(rewrite: Rewrite) -> list[str]:
    if rewrite.back is None:
        mode = "continue" if rewrite.then else "stop"
        return [f"rewrite {mode} name regex {rewrite.pattern} {rewrite.replacement} answer auto"]
    pattern, replacement = rewrite.back
    return [
        "rewrite continue {",
        f"    name regex {rewrite.pattern} {rewrite.replacement}",
        f"    answer name {pattern} {replacement}",
        f"    answer value {pattern} {replacement}",
        "}",
    ]


def _template(template: Template, rtype: str, zones: tuple[Name, ...]) -> Iterator[str]:
    yield f"# {template.why}"
    for zone in zones:
        yield f"template ANY {rtype} {zone} {{"
        for pattern in template.patterns:
            yield f"    match {pattern}"
        yield f"    rcode {template.rcode}"
        if template.answer:
            yield f'    answer "{template.answer}"'
        else:
            yield (
                f'    authority "{zone}. {NEGATIVE_TTL} IN SOA ns.dns.{zone}. hostmaster.{zone}.'
                f' 1 7200 1800 86400 {NEGATIVE_TTL}"'
            )
        yield "    fallthrough"
        yield "}"


def _etcd(block: Block, settings: CorefileSettings) -> Iterator[str]:
    yield f"etcd {' '.join(map(str, block.backend))} {{"
    yield f"    path {settings.etcd_prefix}"
    yield f"    endpoint {' '.join(settings.etcd_servers)}"
    tls = [part for part in (settings.etcd_cert, settings.etcd_key, settings.etcd_cafile) if part]
    if tls:
        yield f"    tls {' '.join(map(_word, tls))}"
    if settings.etcd_user:
        yield f"    credentials {_word(settings.etcd_user)} {{$ETCD_PASSWORD}}"
    if block.fallthrough:
        yield "    fallthrough"
    yield "}"


def _word(text: str) -> str:
    """The text as one word of the file, in quotes where it would else be several or a bracket."""
    if re.fullmatch(r"[^\s\"#{}]+", text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
