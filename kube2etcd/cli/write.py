"""The commands that write: `run`, `webhook` and `resync`."""

from __future__ import annotations

import logging
import os
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kube2etcd.app import build
from kube2etcd.app.process import Reload
from kube2etcd.cli.group import CHANGED, DIFFERENT, main
from kube2etcd.cli.options import (
    Progress,
    WithObjects,
    columns,
    command_option,
    objects_option,
    output_option,
    publisher_of,
    takes_settings,
)
from kube2etcd.errors import PlanChanged
from kube2etcd.settings import Loaded, Settings

if TYPE_CHECKING:
    from kube2etcd.sync.plan import Outcome
    from kube2etcd.sync.publisher import Publisher


@main.command()
@takes_settings("run", quiet=False)
def run(loaded: Loaded) -> None:
    """Keep etcd equal to the cluster until stopped."""
    from kube2etcd.app.run import bridge, check

    reload = Reload(loaded, partial(check, before=loaded.settings))
    _end(reload, bridge(loaded.settings, reload))


def _end(reload: Reload, asked: bool) -> NoReturn:
    """End, or start anew unless a signal ``asked`` to end."""
    logging.shutdown()
    if not asked:
        reload.start_anew()
    # Everything is closed.  Freeing the objects of a whole cluster one by one would only make the pod's
    # shutdown longer than the promised second.
    os._exit(0)


@main.command()
@takes_settings("webhook", quiet=False)
@command_option("--cleanup", is_flag=True, help="Delete the block, the keys and the state, and exit.")
def webhook(loaded: Loaded, cleanup: bool) -> None:
    """Take names from ExternalDNS; publish them as keys, in a hosts file, or both."""
    from kube2etcd.webhook import app

    # No default server here: without one, etcd is not used.
    alone = partial(app.alone, with_etcd="etcd.servers" in loaded.given)
    settings = alone(loaded.settings)
    if cleanup:
        app.cleanup(settings)
        return
    from kube2etcd.app.run import bridge, check

    check(settings)
    reload = Reload(loaded, lambda changed: check(alone(changed), settings))
    _end(reload, bridge(settings, reload))


@main.command(cls=WithObjects)
@takes_settings("resync")
@objects_option
@command_option("--dry-run", is_flag=True, help="Write nothing; exit 2 if anything would change.")
@command_option("--force", is_flag=True, help="Apply a mass deletion without a second listing.")
@command_option(
    "--prune-foreign",
    is_flag=True,
    help="Also delete foreign keys in our zones; PTR records only if they have no owner.",
)
@command_option("--keys", is_flag=True, help="Show keys and values instead of DNS records.")
@command_option(
    "--checksum",
    metavar="CHECKSUM",
    default="",
    help="Write only if the changes still match the checksum of a --dry-run; else exit 3.",
)
@output_option("text", "json")
@click.pass_context
def resync(
    ctx: click.Context,
    /,
    loaded: Loaded,
    objects: tuple[str, ...],
    dry_run: bool,
    force: bool,
    prune_foreign: bool,
    keys: bool,
    checksum: str,
    output: str,
) -> None:
    """List the cluster, read etcd, write the difference, and exit."""
    if objects and not dry_run:
        raise click.UsageError("--objects needs --dry-run: manifests stand in for a cluster only there")
    if checksum and dry_run:
        raise click.UsageError("--checksum and --dry-run exclude each other: a dry run shows the checksum")
    if checksum and not re.fullmatch("[0-9a-f]{16}", checksum):
        raise click.UsageError(
            f"--checksum {checksum!r} is not one; write the 16 digits that --dry-run shows"
        )
    from kube2etcd.app import once

    settings = loaded.settings
    with Progress() as progress:
        how: Any = {"force": force, "prune_foreign": prune_foreign, "progress": progress}
        try:
            if dry_run:
                wanted = partial(publisher_of, settings, objects, progress)
                outcome, publisher = once.dry_run(settings, wanted, **how)
            else:
                outcome, publisher = once.resync(settings, checksum=checksum, **how)
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
    """The outcome as text; records are compared only if shown, since that takes a while."""
    from kube2etcd.inspect import resync as plan
    from kube2etcd.inspect.records import count

    width, colour = 160, False
    if sys.stdout.isatty():
        colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = columns(sys.stdout)
    if output == "text" and (keys or not outcome.changes):
        # Without changes it is not shown.
        total = len(outcome.existing.keys() | outcome.after.keys()) if outcome.changes else 0
        return plan.text(outcome, None, total, dry, width, colour)
    reader = build.reader(settings, publisher, everywhere=True)
    records = plan.records(
        outcome, publisher, reader, lambda done, total: progress("comparing records, names", done, total)
    )
    total = count(publisher) + sum(one.action == "delete" for one in records.changes)
    if output == "json":
        return plan.as_json(outcome, records, total, dry)
    return plan.text(outcome, records, total, dry, width, colour)
