"""The read-only commands: records, explain, wait, check, corefile and docker-flags (except for `--merge`)."""

from __future__ import annotations

import contextlib
import json
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kube2etcd.app import build
from kube2etcd.atomic import rewrite, tidy
from kube2etcd.cli.group import main
from kube2etcd.cli.options import (
    Progress,
    WithObjects,
    command_option,
    objects_option,
    output_option,
    publisher_of,
    reads,
    takes_settings,
)
from kube2etcd.errors import BridgeError, EtcdError, SettingsError
from kube2etcd.inspect import records as listing
from kube2etcd.inspect.docker_flags import FORMATS, DaemonJsonError, merged
from kube2etcd.inspect.why import missing_ns
from kube2etcd.log import printable, quiet
from kube2etcd.settings import HostPort, Loaded, Settings
from kube2etcd.settings.values import to_duration, to_resolver
from skydns_compat.names import Name

if TYPE_CHECKING:
    from kube2etcd.inspect.check import Finding
    from kube2etcd.inspect.explain import Explanation

#: Timeout in seconds for a bridge's response.
BRIDGE_TIMEOUT = 20.0


def _name(text: str) -> Name:
    from kube2etcd.inspect.explain import question_name

    return question_name(text)


def _type(text: str) -> str:
    from kube2etcd.inspect.explain import question_type

    return question_type(text)


def _bridge(text: str) -> str:
    """The URL of a bridge's status page, which may lack its scheme or host."""
    if not text.strip():
        raise ValueError("is empty; write the address of a bridge's status page, such as :8082")
    # Not only unused: error messages would show it.
    if "@" in text:
        raise ValueError("holds a user name or password, which no bridge asks for")
    return text


@main.command(cls=WithObjects)
@takes_settings("records")
@objects_option
@click.option("--zone", metavar="NAME", callback=reads(Name.parse), help="Only names in this zone.")
@click.option(
    "--type", "rtype", metavar="TYPE", callback=reads(listing.record_type), help="Only records of this type."
)
@click.option(
    "--object",
    "made_by",
    metavar="KIND/NAMESPACE/NAME",
    callback=reads(listing.parse_object),
    help="Only records of this object.",
)
@click.option("--watch", is_flag=True, help="Print changes as they happen, one line each, until stopped.")
@output_option("table", "json", "zone")
def records(
    loaded: Loaded,
    objects: tuple[str, ...],
    zone: Name | None,
    rtype: str | None,
    made_by: tuple[str, ...] | None,
    watch: bool,
    output: str,
) -> None:
    """Show the published records and the objects behind them.

    The zone file of a single zone (use --zone if there are several) has an SOA record, and NS with
    --dns-server-ip, so that a server can load it.
    """
    if watch and (objects or output == "zone"):
        raise click.UsageError("--watch excludes --objects and --output zone")
    settings = loaded.settings

    chosen = partial(listing.chosen, zone=zone, rtype=rtype, unit=made_by)
    if watch:
        _watch(settings, output, chosen)
        return
    with Progress() as progress:
        publisher = publisher_of(settings, objects, progress)
    rows = listing.rows(publisher)
    found = chosen(rows)
    if rows and not found:
        click.echo(f"Note: none of {len(rows)} records match --zone, --type and --object", err=True)
    if output == "zone":
        apex = zone or (publisher.zones[0].name if len(publisher.zones) == 1 else None)
        if apex is None:
            click.echo(
                "Note: without SOA and NS; --zone NAME prints the complete zone file of one zone", err=True
            )
        else:
            found = listing.chosen(found, apex)
            zone_of = next((one for one in publisher.zones if one.name == apex), None)
            if zone_of is not None and not listing.has_name_server(found, apex):
                click.echo(f"Note: {missing_ns(zone_of)}", err=True)
        click.echo(listing.zone_file(found, apex, settings.ttl, int(time.time())))
    else:
        click.echo(listing.table(found) if output == "table" else listing.as_json(found))


def _watch(
    settings: Settings, output: str, chosen: Callable[[Iterable[listing.Row]], list[listing.Row]]
) -> None:
    """Print changes until a signal arrives or the output is closed."""
    from kube2etcd.app.once import followed

    reader = select.poll()
    with contextlib.suppress(OSError, ValueError):  # not a file, as in tests
        reader.register(sys.stdout.fileno(), 0)
    stop = threading.Event()
    changes: listing.RowChanges | None = None
    for publisher, touched, keys in followed(settings, stop):
        if changes is None:
            changes = listing.RowChanges(publisher)
            continue
        for sign, row in changes.after(touched, keys) if touched else ():
            if chosen([row]):
                moment = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
                click.echo(listing.change_line(sign, row, moment, output))
        if any(event & (select.POLLERR | select.POLLNVAL) for _, event in reader.poll(0)):
            stop.set()


server_option = command_option(
    "--server",
    metavar="IP[:PORT]",
    callback=reads(to_resolver),
    help="Address of the DNS server to ask.",
)
type_argument = click.argument("rtype", metavar="[TYPE]", required=False, callback=reads(_type))


@main.command(cls=WithObjects)
@takes_settings("explain")
@objects_option
@command_option(
    "--bridge",
    metavar="URL",
    callback=reads(_bridge),
    help="Ask the bridge whose status page this is.  [default: that of KUBE2ETCD_LISTEN_PAGE, if set]",
)
@server_option
@output_option("text", "json")
@click.argument("name", metavar="NAME", required=False, callback=reads(_name))
@type_argument
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    loaded: Loaded,
    objects: tuple[str, ...],
    output: str,
    name: Name | None,
    rtype: str | None,
    bridge: str | None,
    server: HostPort | None,
) -> None:
    """Show what the DNS server answers for NAME (or an address), and why.

    The answer is computed from etcd's keys.  --bridge asks a running bridge, which also knows of held
    deletions, contested keys and lost watches.  --server also queries a DNS server and shows differences.
    """
    from kube2etcd.inspect.explain import exit_code

    if name is None:
        order = " before --objects: kube2etcd explain NAME --objects FILE" if objects else " to explain"
        raise click.UsageError(f"write the NAME{order}")
    if bridge is not None and objects:
        raise click.UsageError("--bridge and --objects exclude each other")
    settings = loaded.settings
    found: list[Explanation] | None = None
    if bridge is not None:
        found = _ask_bridge(bridge, name, rtype)
    elif settings.listen_page is not None and not objects:
        try:
            found = _ask_bridge(str(settings.listen_page), name, rtype)
        except BridgeError as error:
            click.echo(f"Note: answered without the bridge: {error}", err=True)
    if found is None:
        found = _explained(settings, objects, name, rtype)
    if server is not None:
        from kube2etcd.inspect.wait import ask

        found = [one.with_server(server, ask(name, one.type, server)) for one in found]
    if output == "json":
        click.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(map(str, found)))
    ctx.exit(exit_code(found))


def _explained(
    settings: Settings, objects: tuple[str, ...], name: Name, rtype: str | None
) -> list[Explanation]:
    """Explain from the API server's objects and etcd's keys, or from manifests."""
    from kube2etcd.app.once import reading
    from kube2etcd.inspect.explain import Explainer

    # The explanation itself says which records of the object are left out.
    with Progress() as progress, quiet("kube2etcd.sync.listings"):
        publisher = publisher_of(settings, objects, progress, brief=True)
    existing = None
    if not objects:
        try:
            with reading(settings) as snapshot:
                existing = snapshot().entries
        except EtcdError as error:
            click.echo(f"Note: answered from the cluster's objects alone: {error}", err=True)
    return Explainer(publisher, build.reader(settings, publisher), existing).explain(name, rtype)


def _ask_bridge(url: str, name: Name, rtype: str | None) -> list[Explanation]:
    """Let a running bridge explain.

    :raises BridgeError: no bridge answers there, or one of another version.
    """
    import urllib3

    from kube2etcd.inspect.explain import decoded

    where = url if "://" in url else f"http://127.0.0.1{url}" if url.startswith(":") else f"http://{url}"
    where = where.rstrip("/") + "/api/explain"
    try:
        answer = urllib3.request(
            "GET",
            where,
            fields={"name": str(name), "type": rtype or ""},
            timeout=BRIDGE_TIMEOUT,
            retries=False,
        )
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise BridgeError(f"no bridge answers at {url} ({reason}); does it run with --listen-page?") from None
    if answer.status == 200:
        try:
            return decoded(answer.data, name)
        except ValueError:
            pass
    elif answer.status in (400, 503):
        raise BridgeError(
            f"the bridge at {url}: {printable(answer.data[:300].decode(errors='replace').strip())}"
        )
    raise BridgeError(
        f"{url} answers {answer.status}, and no explanation: is it a bridge's --listen-page, of this version?"
    )


@main.command("wait")
@click.argument("name", metavar="NAME", callback=reads(_name))
@type_argument
@command_option(
    "--for",
    "wanted",
    metavar="present|absent|VALUE",
    default="present",
    show_default=True,
    help="What to wait for; VALUE: the data of one record, such as an address.",
)
@command_option(
    "--timeout",
    metavar="SECONDS",
    callback=reads(to_duration(0, 86400)),
    default="60s",
    show_default=True,
    help="How long to wait, such as 90 or 2m.",
)
@server_option
@click.pass_context
def wait_command(
    ctx: click.Context,
    /,
    name: Name,
    rtype: str | None,
    wanted: str,
    timeout: float,
    server: HostPort | None,
) -> None:
    """Wait until DNS answers NAME (or an address), for scripts and init containers.

    NAME is a full name; no search list is applied.  TYPE defaults to A, or PTR for an address.  Without
    --server, the first server in /etc/resolv.conf is asked.
    """
    from kube2etcd.inspect.wait import ask, canonical, resolv_conf, wait

    # An address stands for its reverse name, where only PTR is worth waiting for.
    kind = rtype or ("PTR" if name.labels[-1] == "arpa" else "A")
    host = resolv_conf() if server is None else server
    if not wanted.strip():
        raise click.UsageError("--for is empty; write present, absent, or one of the answer's data")
    wanted = canonical(wanted, kind)
    came, answer = wait(lambda: ask(name, kind, host), wanted, timeout)
    click.echo(f"{name}. {answer}")
    if not came:
        why = f"kube2etcd explain {name} {kind} says why"
        click.echo(f"not {wanted} at {host} after {timeout:g} s; {why}", err=True)
        ctx.exit(1)


@main.command()
@takes_settings("check")
@output_option("text", "json")
@click.pass_context
def check(ctx: click.Context, /, loaded: Loaded, output: str) -> None:
    """Check that the bridge can work here: API server, permissions, etcd, foreign keys.

    Writes nothing; exits 1 if something must be fixed first.
    """
    found = []
    for finding in _findings(loaded.settings):
        found.append(finding)
        if output == "text":
            click.echo(str(finding))
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    if any(finding.verdict == "fault" for finding in found):
        ctx.exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    """All findings, as they arrive."""
    from kube2etcd.app.corefile import text
    from kube2etcd.inspect import check

    webhook, objects = settings.webhook, settings.webhook.state_objects
    yield from check.cluster(settings.cluster, build.kinds(settings), objects if webhook.inside else None)
    yield from check.etcd(
        settings.etcd,
        build.layout(settings),
        build.zone_names(settings),
        webhook.state_prefix if webhook.inside and objects is None else None,
        partial(build.election_key, settings) if settings.leader_elect else None,
    )
    if settings.corefile.file is not None:
        yield check.corefile(settings.corefile.file, text(settings))


@main.command()
@takes_settings("corefile")
def corefile(loaded: Loaded) -> None:
    """Print a complete Corefile for these settings."""
    from kube2etcd.app.corefile import text

    click.echo(text(loaded.settings), nl=False)


@main.command("docker-flags")
@takes_settings("docker-flags")
@command_option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="Output for dockerd's command line (default), daemon.json, the kubelet, or a single container.",
)
@command_option(
    "--merge",
    metavar="FILE",
    help="Set the keys in this daemon.json and leave the rest of it unchanged.",
)
def docker_flags(loaded: Loaded, form: str | None, merge: str | None) -> None:
    """Print settings that make docker, a kubelet or a resolver use the cluster's DNS.

    \b
    The search list is what the kubelet gives to pods, in the same order, narrow to wide:
      default.svc.DOMAIN   web             of the namespace (another one: --namespace)
      svc.DOMAIN           web.shop        a Service of another namespace
      DOMAIN               web.shop.svc    the rest of the cluster's names
    The narrow ones come first so that a near Service hides a far one, never the other
    way round, and so that the most common names take one query.

    Servers are tried in order, three at most; all must serve the cluster's zone, since a resolver asks
    the next one only if one does not answer.  Without --ndots, resolvers use 1: web.shop is tried as is
    before the search list.  Pods have 5.

    --merge replaces dns and dns-search, and of dns-opts only ndots, with --ndots; the file is replaced
    atomically and keeps its mode and owner.  dockerd reads it on start, and refuses to start with the
    same keys on its command line.  A kubelet gives each pod its own namespace and ndots:5, so
    --format kubelet uses neither option.
    """
    client = build.client(loaded.settings)
    if merge is None:
        click.echo(FORMATS[form or "flags"](client), nl=False)
        return
    if form not in (None, "daemon.json"):
        raise click.UsageError(f"--merge needs --format daemon.json, not {form}")
    if not merge:
        raise SettingsError("--merge is empty; write the name of a file")
    try:
        tidy(Path(merge))
        written = rewrite(Path(merge), lambda before: merged(before, client))
    except DaemonJsonError as error:
        raise SettingsError(f"--merge: {merge} {error}; nothing is changed") from None
    except (OSError, ValueError) as error:
        folder, reason = Path(merge).parent, getattr(error, "strerror", None) or error
        reason = reason if folder.is_dir() else f"there is no folder {folder}; make it first"
        raise SettingsError(f"--merge: {merge} cannot be changed: {reason}") from None
    click.echo(f"{merge}: {'written; restart docker' if written else 'nothing to change'}", err=True)
