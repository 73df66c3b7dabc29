"""Shared by the commands: options derived from the settings, loading, manifests."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from kube2etcd.cli.group import Command, Option, main
from kube2etcd.cli.progress import Progress
from kube2etcd.errors import EtcdError, SettingsError
from kube2etcd.log import setup as setup_logging
from kube2etcd.settings import ENVIRONMENT, SETTINGS, Loaded, Setting, Settings, load_all

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


def takes_settings(command: str, *, quiet: bool = True) -> Callable[[_Command], _Command]:
    """The options of the settings that ``command`` accepts; those without effect on it are hidden.

    The function gets them as ``loaded``, with logging set up; ``quiet``: by default from warnings on.
    """
    taken = [one for one in SETTINGS if one.is_taken_by(command)]

    def decorate(function: _Command) -> _Command:
        @functools.wraps(function)
        def call(config: str | None, **given: Any) -> Any:
            options = {one.parameter: given.pop(one.parameter) for one in taken}
            return function(loaded=_load(options, config, quiet), **given)

        for setting in reversed(taken):
            _option(setting, command, hidden=not setting.is_used_by(command))(call)
        return cast(
            "_Command", command_option("--config", metavar="FILE", help="Settings file in YAML.")(call)
        )

    return decorate


def _load(options: Mapping[str, Any], config: str | None, quiet: bool) -> Loaded:
    if config == "":
        raise SettingsError("--config is empty; write the name of a file")
    others = {str(one.envvar) for command in main.commands.values() for one in command.params if one.envvar}
    loaded = load_all(options, os.environ, Path(config) if config else None, others)
    level = loaded.settings.log_level
    setup_logging(loaded.settings.log_format, "warning" if quiet and level == Settings().log_level else level)
    logger = logging.getLogger(__name__)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    for remark in loaded.remarks:
        logger.debug("%s", remark)
    return loaded


def command_option(flag: str, *name: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """An option that is not a setting, and its environment variable: of ``--a-b`` it is ``KUBE2ETCD_A_B``."""
    return click.option(flag, *name, envvar=ENVIRONMENT + flag[2:].upper().replace("-", "_"), **attributes)


objects_option = click.option(
    "--objects",
    "objects",
    metavar="FILE",
    multiple=True,
    help="Read manifests instead of the API server: files, folders, or - for stdin; may be repeated.",
)


def output_option(*forms: str) -> Callable[[_Command], _Command]:
    """``--output``; the first of the ``forms`` is the default."""
    return command_option(
        "--output", type=click.Choice(forms), default=forms[0], show_default=True, help="Output format."
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
