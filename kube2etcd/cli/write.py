"""The commands that write: `run`, `webhook` and `resync`."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kube2etcd.app.reload import Reload
from kube2etcd.cli.group import CHANGED, DIFFERENT, main
from kube2etcd.cli.options import (
    WithObjects,
    load,
    load_options,
    objects_option,
    output_option,
    publisher_of,
    settings_options,
)
from kube2etcd.cli.progress import Progress, columns
from kube2etcd.errors import PlanChanged
from kube2etcd.settings import Settings, load_all

if TYPE_CHECKING:
    from kube2etcd.app.once import Outcome
    from kube2etcd.sync.publisher import Publisher


@main.command()
@settings_options("run")
def run(**options: Any) -> None:
    """Keep etcd equal to the cluster until stopped."""
    given = dict(options)
    settings = load(options)
    from kube2etcd.app.run import bridge

    reload = _reload(given, settings)
    bridge(settings, reload.stop, reload.look)
    _end(reload)


def _reload(given: dict[str, Any], settings: Settings) -> Reload:
    config = given.pop("config", None)
    file = Path(config) if config else None
    return Reload(file, lambda: load_all(given, os.environ, file).settings, settings)


def _end(reload: Reload) -> NoReturn:
    logging.shutdown()
    reload.start_anew()
    # Everything is closed.  Taking a store of a whole cluster apart, object by object, would only
    # make the pod's end longer than the second it is promised to take.
    os._exit(0)


@main.command()
@settings_options("webhook")
@click.option(
    "--cleanup", is_flag=True, envvar="KUBE2ETCD_CLEANUP", help="Take out block, keys and state, and exit."
)
def webhook(cleanup: bool, **options: Any) -> None:
    """Take names from ExternalDNS; publish them as keys, in a hosts file, or both."""
    given = dict(options)
    loaded = load_options(options)
    from kube2etcd.webhook import app

    # There is no default server here: who names none wants none.
    with_etcd = "etcd.servers" in loaded.given
    if cleanup:
        app.cleanup(loaded.settings, with_etcd=with_etcd)
        return
    reload = _reload(given, loaded.settings)
    app.serve(loaded.settings, with_etcd=with_etcd, stop=reload.stop, changed=reload.look)
    _end(reload)


@main.command(cls=WithObjects)
@settings_options("resync")
@objects_option
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
@click.option(
    "--keys", is_flag=True, envvar="KUBE2ETCD_KEYS", help="Show keys and values instead of DNS records."
)
@click.option(
    "--checksum",
    metavar="CHECKSUM",
    default="",
    envvar="KUBE2ETCD_CHECKSUM",
    help="Write only if the changes are still those of the --dry-run that showed this; else exit 3.",
)
@output_option("text", "json")
@click.pass_context
def resync(
    ctx: click.Context,
    /,
    objects: tuple[str, ...],
    dry_run: bool,
    force: bool,
    prune_foreign: bool,
    keys: bool,
    checksum: str,
    output: str,
    **options: Any,
) -> None:
    """List the cluster, read etcd, write the difference, and exit."""
    if objects and not dry_run:
        raise click.UsageError("--objects goes with --dry-run only: files are no cluster to follow")
    if checksum and dry_run:
        raise click.UsageError("--checksum goes without --dry-run, which shows the checksum of now")
    if checksum and not re.fullmatch("[0-9a-f]{16}", checksum):
        raise click.UsageError(f"--checksum {checksum!r} is none; write the 16 digits that --dry-run shows")
    settings = load(options, level="warning")
    from kube2etcd.app import once

    with Progress() as progress:
        if dry_run:
            outcome, publisher = once.dry_run(
                settings,
                lambda: publisher_of(settings, objects, progress),
                force=force,
                prune_foreign=prune_foreign,
                progress=progress,
            )
        else:
            try:
                outcome, publisher = once.resync(
                    settings, force=force, prune_foreign=prune_foreign, checksum=checksum, progress=progress
                )
            except PlanChanged as error:
                click.echo(f"Error: {error}", err=True)
                ctx.exit(CHANGED)
        shown = _shown(settings, outcome, publisher, dry_run, keys, output, progress)
    click.echo(shown)
    if outcome.refused:
        ctx.exit(1)
    if dry_run and outcome.changes:
        ctx.exit(DIFFERENT)


def _shown(
    settings: Settings,
    outcome: Outcome,
    publisher: Publisher,
    dry: bool,
    keys: bool,
    output: str,
    progress: Progress,
) -> str:
    """The outcome as text; to compare records takes a while, so only where they are shown."""
    from kube2etcd.app import corefile, skydns
    from kube2etcd.inspect import changes, listing, report

    style = report.Style()
    if sys.stdout.isatty():
        colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        style = report.Style(columns(sys.stdout), colour)
    if output == "text" and (keys or not outcome.changes):
        return report.text(outcome, None, len(outcome.existing.keys() | outcome.after.keys()), dry, style)
    blocks = corefile.served_blocks(settings, publisher)
    reads = skydns.reads(settings) or changes.coredns(blocks, publisher.layout.prefix)
    records = changes.records(
        outcome, publisher, reads, lambda done, total: progress("comparing records, names", done, total)
    )
    total = listing.count(publisher) + sum(one.mark == "-" for one in records.changes)
    if output == "json":
        return report.as_json(outcome, records, total, dry)
    return report.text(outcome, records, total, dry, style)
