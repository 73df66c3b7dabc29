"""Shared by the commands: options derived from the settings, loading, manifests."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kube2etcd.cli.group import Command, Option
from kube2etcd.cli.progress import Progress
from kube2etcd.errors import EtcdError, SettingsError
from kube2etcd.log import setup as setup_logging
from kube2etcd.settings import SETTINGS, Loaded, Setting, Settings, load_all

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(setting: Setting, command: str, *, hidden: bool) -> Callable[[_Command], _Command]:
    flags = [f"--{setting.option}", *(f"--{alias}" for alias in setting.aliases)]
    common: dict[str, Any] = {"cls": Option, "topic": setting.topic, "default": None, "hidden": hidden}
    if setting.flag:
        return click.option(*flags, setting.parameter, is_flag=True, help=setting.help, **common)
    # `webhook` uses no etcd unless a server is given.
    none = command == "webhook" and setting.path == "etcd.servers"
    shown = "" if none else setting.shown_default
    return click.option(
        *flags,
        setting.parameter,
        metavar=setting.metavar,
        multiple=setting.many,
        help=setting.help + (f"  [default: {shown}]" if shown else ""),
        **common,
    )


def settings_options(command: str) -> Callable[[_Command], _Command]:
    """The options of the settings that ``command`` accepts; those without effect on it are hidden."""

    def decorate(function: _Command) -> _Command:
        for setting in reversed([one for one in SETTINGS if one.is_taken_by(command)]):
            function = _option(setting, command, hidden=not setting.is_used_by(command))(function)
        return click.option(
            "--config", "config", metavar="FILE", envvar="KUBE2ETCD_CONFIG", help="Settings file in YAML."
        )(function)

    return decorate


objects_option = click.option(
    "--objects",
    "objects",
    metavar="FILE",
    multiple=True,
    help="Read manifests instead of the API server: files, folders, or - for stdin; may be repeated.",
)


def output_option(*forms: str) -> Callable[[_Command], _Command]:
    """``--output``; the first of the ``forms`` is the default."""
    return click.option(
        "--output",
        type=click.Choice(forms),
        default=forms[0],
        envvar="KUBE2ETCD_OUTPUT",
        help=f"Output format.  [default: {forms[0]}]",
    )


class WithObjects(Command):
    """Accepts ``--objects a.yaml b.yaml``, as a shell expands a glob: FILE… up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each FILE its own ``--objects``."""
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
        try:
            return super().parse_args(ctx, spread)
        except click.UsageError as error:
            # Of an argument too many click raises this very class, with the arguments in brackets.
            extra = (
                error.message.rpartition("(")[2].rstrip(")").split()
                if type(error) is click.UsageError
                else []
            )
            files = [arg for arg in extra if Path(arg).is_file()]
            if "--objects" in spread or not files:
                raise
            hint = f"manifests are named by --objects {' '.join(files)}"
            raise click.UsageError(f"{error.format_message()}; {hint}", ctx) from None


def load(options: dict[str, Any], *, level: str | None = None) -> Settings:
    """Load the settings and set up logging; ``level`` replaces the default level."""
    return load_options(options, level=level).settings


def load_options(options: dict[str, Any], *, level: str | None = None) -> Loaded:
    """Like `load`, with what else is known about the settings."""
    config = options.pop("config", None)
    if config == "":
        raise SettingsError("--config names no file: its value is empty")
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


def publisher_of(settings: Settings, objects: tuple[str, ...], progress: Progress) -> Any:
    """A publisher of the manifests, if any, else of the cluster."""
    if objects:
        from kube2etcd.app.offline import from_files

        return from_files(settings, objects)
    from kube2etcd.app.once import listed

    return listed(settings, progress)


def existing_of(settings: Settings) -> dict[bytes, bytes] | None:
    """All keys of etcd; None, with a note on stderr, if it is unreachable."""
    from kube2etcd.app.once import reading

    try:
        with reading(settings) as snapshot:
            return snapshot().entries
    except EtcdError as error:
        click.echo(f"Note: answered from the cluster's objects alone: {error}", err=True)
        return None
