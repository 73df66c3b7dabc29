"""The command line: parse, build, call.  The only place that knows `click`, exit codes and terminals."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from kube2etcd import __version__
from kube2etcd.atomic import rewrite, tidy
from kube2etcd.docker_flags import FORMATS, DaemonJsonError, merged
from kube2etcd.errors import EtcdError, Kube2EtcdError, SettingsError
from kube2etcd.log import setup as setup_logging
from kube2etcd.settings import SETTINGS, Loaded, Setting, Settings, load_all
from skydns_compat.names import InvalidName, Name

#: Exit code of a dry run that found a difference, as `diff` and `terraform plan` have it.
DIFFERENT = 2
#: Exit code for settings that cannot be used, as click has it for usage.
USAGE = 2
#: How writing to a full disk or a lost mount fails; a closed pipe is left to click.
_UNPRINTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Turns what our own code raises into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Kube2EtcdError as error:
            lines = error.faults if isinstance(error, SettingsError) else (str(error),)
            for line in lines:
                click.echo(f"Error: {line}", err=True)
            ctx.exit(_wrong_usage(ctx) if isinstance(error, SettingsError) else 1)
        except click.UsageError as error:
            error.show()
            ctx.exit(_wrong_usage(ctx))
        except OSError as error:
            if error.errno not in _UNPRINTED:
                raise
            click.echo(f"Error: what was to be printed cannot be written: {error.strerror}", err=True)
            ctx.exit(1)


def _wrong_usage(ctx: click.Context) -> int:
    """The exit code; of `resync` 2 says that something differs, and nothing else may say so."""
    return 1 if ctx.invoked_subcommand == "resync" else USAGE


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kube2etcd")
def main() -> None:
    """Keep etcd equal to the DNS records of a Kubernetes cluster.

    Every option has an environment variable, KUBE2ETCD_<OPTION>; options beat the environment, the
    environment beats the file of --config.
    """


def _option(setting: Setting, *, hidden: bool) -> Callable[[_Command], _Command]:
    flags = [f"--{setting.option}", *(f"--{alias}" for alias in setting.aliases)]
    if setting.negated:
        return click.option(
            *flags, setting.parameter, is_flag=True, default=None, help=setting.help, hidden=hidden
        )
    shown = "" if setting.many else _default(setting)
    return click.option(
        *flags,
        setting.parameter,
        metavar=setting.metavar,
        multiple=setting.many,
        default=None,
        hidden=hidden,
        help=setting.help + (f"  [default: {shown}]" if shown else ""),
    )


def _default(setting: Setting) -> str:
    value: Any = Settings()
    for part in setting.path.split("."):
        value = getattr(value, part)
    if value is None or value == () or value == "":
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings_options(command: str) -> Callable[[_Command], _Command]:
    """What this command takes; it shows what it uses."""

    def decorate(function: _Command) -> _Command:
        for setting in reversed([one for one in SETTINGS if one.is_taken_by(command)]):
            function = _option(setting, hidden=not setting.is_used_by(command))(function)
        return click.option(
            "--config", "config", metavar="FILE", envvar="KUBE2ETCD_CONFIG", help="Settings in YAML."
        )(function)

    return decorate


_objects = click.option(
    "--objects",
    "objects",
    metavar="FILE",
    multiple=True,
    help="Manifests in the place of the API server; may be repeated, or several files be given.",
)


class _WithObjects(click.Command):
    """Takes ``--objects a.yaml b.yaml``, as a shell's pattern gives it: FILE… up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        taking = False
        for number, arg in enumerate(args):
            if arg == "--objects":
                taking = True
                continue
            if taking and (arg == "-" or not arg.startswith("-")):
                spread += ["--objects", arg]
                continue
            if taking and (not number or args[number - 1] == "--objects"):
                spread.append("--objects")
            taking = False
            spread.append(arg)
        if taking and args[-1:] == ["--objects"]:
            spread.append("--objects")
        return super().parse_args(ctx, spread)


def _load(options: dict[str, Any], *, level: str | None = None) -> Settings:
    """The settings of a command, with logging set up; ``level``: the least that is logged by default."""
    return _load_all(options, level=level).settings


def _load_all(options: dict[str, Any], *, level: str | None = None) -> Loaded:
    """The same, with what is known about them."""
    config = options.pop("config", None)
    loaded = load_all(options, os.environ, Path(config) if config else None)
    settings = loaded.settings
    quiet = level if level and settings.log_level == Settings().log_level else None
    setup_logging(settings.log_format, quiet or settings.log_level)
    logger = logging.getLogger(__name__)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    for remark in loaded.remarks:
        logger.debug("%s", remark)
    return loaded


class _Progress:
    """One line on a terminal's stderr that is written over; nothing elsewhere."""

    def __init__(self) -> None:
        # Whoever closes stderr has none.
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0

    def __call__(self, text: str) -> None:
        if self._shown:
            click.echo("\r" + text.ljust(self._width), nl=False, err=True)
            self._width = len(text)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)


@main.command()
@_settings_options("run")
def run(**options: Any) -> None:
    """Keep etcd equal to the cluster until stopped."""
    settings = _load(options)
    from kube2etcd.run import bridge

    bridge(settings)
    # Everything is closed.  Taking a store of a whole cluster apart, object by object, would only
    # make the pod's end longer than the second it is promised to take.
    logging.shutdown()
    os._exit(0)


@main.command()
@_settings_options("webhook")
@click.option(
    "--cleanup", is_flag=True, envvar="KUBE2ETCD_CLEANUP", help="Take out block, keys and state, and exit."
)
def webhook(cleanup: bool, **options: Any) -> None:
    """Take names from ExternalDNS; publish them as keys, in a hosts file, or both."""
    loaded = _load_all(options)
    from kube2etcd.webhook import command

    # There is no default server here: who names none wants none.
    with_etcd = "etcd.servers" in loaded.said
    if cleanup:
        command.cleanup(loaded.settings, with_etcd=with_etcd)
        return
    command.serve(loaded.settings, with_etcd=with_etcd)
    logging.shutdown()
    os._exit(0)


@main.command(cls=_WithObjects)
@_settings_options("resync")
@_objects
@click.option(
    "--dry-run", is_flag=True, envvar="KUBE2ETCD_DRY_RUN", help="Write nothing; exit 2 if something differs."
)
@click.option(
    "--force", is_flag=True, envvar="KUBE2ETCD_FORCE", help="Believe a mass deletion at first sight."
)
@click.option(
    "--prune-foreign",
    is_flag=True,
    envvar="KUBE2ETCD_PRUNE_FOREIGN",
    help="Take out keys in our zones that another or nobody signed, too.",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", envvar="KUBE2ETCD_OUTPUT")
@click.pass_context
def resync(
    ctx: click.Context,
    /,
    objects: tuple[str, ...],
    dry_run: bool,
    force: bool,
    prune_foreign: bool,
    output: str,
    **options: Any,
) -> None:
    """List the cluster, read etcd, write the difference, and exit."""
    if objects and not dry_run:
        raise click.UsageError("--objects goes with --dry-run only: files are no cluster to follow")
    settings = _load(options, level="warning")
    from kube2etcd import once, report

    with _Progress() as progress:
        if dry_run:
            publisher = _publisher(settings, objects, progress)
            outcome = once.dry_run(settings, publisher, prune_foreign=prune_foreign, progress=progress)
        else:
            outcome = once.resync(settings, force=force, prune_foreign=prune_foreign, progress=progress)
    render = report.as_json if output == "json" else report.text
    click.echo(render(outcome, dry_run))
    if outcome.refused:
        ctx.exit(1)
    if dry_run and outcome.changes:
        ctx.exit(DIFFERENT)


@main.command(cls=_WithObjects)
@_settings_options("records")
@_objects
@click.option("--zone", metavar="NAME", help="Only names in this zone.")
@click.option("--type", "rtype", metavar="TYPE", help="Only records of this type.")
@click.option("--object", "made_by", metavar="KIND/NAMESPACE/NAME", help="Only what this object makes.")
@click.option(
    "--output", type=click.Choice(["table", "json", "zone"]), default="table", envvar="KUBE2ETCD_OUTPUT"
)
def records(
    objects: tuple[str, ...],
    zone: str | None,
    rtype: str | None,
    made_by: str | None,
    output: str,
    **options: Any,
) -> None:
    """Show what is published, and which object makes each record."""
    from kube2etcd import listing

    try:
        below = Name.parse(zone) if zone is not None else None
    except InvalidName as error:
        raise click.UsageError(f"--zone {zone!r} is no zone: {error}") from None
    try:
        unit = listing.parse_object(made_by) if made_by is not None else None
    except ValueError as error:
        raise click.UsageError(f"--object {error}") from None
    if rtype is not None and rtype.upper() not in listing.TYPES:
        raise click.UsageError(f"--type {rtype!r} is no type; write one of {', '.join(listing.TYPES)}")
    settings = _load(options, level="warning")
    with _Progress() as progress:
        publisher = _publisher(settings, objects, progress)
    found = listing.chosen(listing.rows(publisher), below, rtype, unit)
    render = {"table": listing.table, "json": listing.as_json, "zone": listing.zone_file}[output]
    click.echo(render(found))


@main.command(cls=_WithObjects)
@_settings_options("explain")
@_objects
@click.option("--output", type=click.Choice(["text", "json"]), default="text", envvar="KUBE2ETCD_OUTPUT")
@click.argument("name", metavar="NAME", required=False)
@click.argument("rtype", metavar="[TYPE]", required=False)
def explain(
    objects: tuple[str, ...], output: str, name: str | None, rtype: str | None, **options: Any
) -> None:
    """Say what the DNS server answers to NAME (or an address), and why."""
    from kube2etcd import parts, skydns
    from kube2etcd.explain import TYPES, Explainer, question_name
    from skydns_compat.corefile import blocks

    if name is None:
        raise click.UsageError("write the NAME before --objects: kube2etcd explain NAME --objects FILE")
    if rtype is not None and rtype.upper() not in TYPES:
        raise click.UsageError(f"{rtype!r} is no type; write one of {', '.join(TYPES)}")
    try:
        asked = question_name(name)
    except InvalidName as error:
        raise click.UsageError(f"no server can have {name!r}: {error}") from None
    settings = _load(options, level="warning")
    with _Progress() as progress:
        publisher = _publisher(settings, objects, progress)
        existing = None if objects else _existing(settings)
    explainer = Explainer(publisher, blocks(parts.corefile(settings)), existing, skydns.reads(settings))
    found = explainer.explain(asked, rtype)
    if output == "json":
        click.echo(json.dumps([one.as_dict() for one in found], indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(map(str, found)))


@main.command()
@_settings_options("check")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", envvar="KUBE2ETCD_OUTPUT")
@click.pass_context
def check(ctx: click.Context, /, output: str, **options: Any) -> None:
    """Say whether it can work here: API server, rights, etcd, keys that are not ours.

    Writes nothing.  Exits 1 where something has to be mended first.
    """
    settings = _load(options, level="warning")
    from kube2etcd.check import findings

    found = []
    for finding in findings(settings):
        found.append(finding)
        if output == "text":
            click.echo(str(finding))
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    if any(finding.verdict == "fault" for finding in found):
        ctx.exit(1)


@main.command()
@_settings_options("corefile")
def corefile(**options: Any) -> None:
    """Print a complete Corefile for these settings."""
    settings = _load(options, level="warning")
    from kube2etcd import parts, skydns
    from skydns_compat.corefile import corefile as text

    skydns.check_corefile(settings)
    click.echo(text(parts.corefile(settings)), nl=False)


@main.command("docker-flags")
@_settings_options("docker-flags")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default=None,
    envvar="KUBE2ETCD_FORMAT",
    help="For dockerd's command line (the default), for daemon.json, the kubelet, or a container by itself.",
)
@click.option(
    "--merge",
    metavar="FILE",
    default=None,
    envvar="KUBE2ETCD_MERGE",
    help="Put the keys into this daemon.json, and leave the rest of it as it is.",
)
def docker_flags(form: str | None, merge: str | None, **options: Any) -> None:
    """Print what makes docker, a kubelet or a resolver ask the cluster's DNS.

    \b
    The search list is what the kubelet gives to pods, in the same order, narrow to wide:
      default.svc.DOMAIN   web             of the namespace (another one: --namespace)
      svc.DOMAIN           web.shop        a Service of another namespace
      DOMAIN               web.shop.svc    the rest of the cluster's names
    The narrow ones stand first so that a near Service hides a far one, never the
    other way round, and so that the commonest names cost one question.

    Servers are tried in the order given, three at most; all must know the cluster, since a resolver
    asks the next one only when one is silent.  Without --ndots nothing is said about it and resolvers
    take 1: web.shop is then asked as it is before it is searched for.  Pods have 5.

    --merge replaces dns and dns-search, of dns-opts only ndots and only with --ndots, and writes the
    file in one step with its mode and owner.  dockerd reads it when it starts, and refuses to start
    with the same keys on its command line.  A kubelet gives each pod its own namespace and ndots:5, so
    --format kubelet uses neither option.
    """
    settings = _load(options, level="warning")
    from kube2etcd import parts

    client = parts.client(settings)
    if merge is None:
        click.echo(FORMATS[form or "flags"](client), nl=False)
        return
    if form not in (None, "daemon.json"):
        raise click.UsageError(f"--merge goes with --format daemon.json only, not with {form}")
    try:
        tidy(Path(merge))
        written = rewrite(Path(merge), lambda before: merged(before, client))
    except DaemonJsonError as error:
        raise SettingsError(f"--merge: {merge} {error}; nothing is changed") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"--merge: {merge} cannot be changed: {reason}") from None
    click.echo(f"{merge}: {'written; restart docker' if written else 'nothing to change'}", err=True)


def _publisher(settings: Settings, objects: tuple[str, ...], progress: _Progress) -> Any:
    """What is to be published: from files, else from the cluster."""
    if objects:
        from kube2etcd.offline import from_files

        return from_files(settings, objects)
    from kube2etcd.once import listed

    return listed(settings, progress)


def _existing(settings: Settings) -> dict[bytes, bytes] | None:
    """What etcd holds; None, with a word about it, where it cannot be reached from here."""
    from kube2etcd.once import reading

    try:
        with reading(settings) as snapshot:
            return snapshot().entries
    except EtcdError as error:
        click.echo(f"Note: answered from the cluster's objects alone: {error}", err=True)
        return None
