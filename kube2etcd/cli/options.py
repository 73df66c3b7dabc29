"""Shared by the commands: options derived from the settings, loading, manifests, a progress line."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import click
from click.core import ParameterSource

from kube2etcd.cli.group import Command, Option, main
from kube2etcd.errors import SettingsError
from kube2etcd.log import setup as setup_logging
from kube2etcd.settings import ENVIRONMENT, SETTINGS, Loaded, Setting, Settings, load_all
from skydns_compat.names import InvalidName

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(setting: Setting, command: str, *, hidden: bool) -> Callable[[_Command], _Command]:
    flags = [f"--{setting.option}", *(f"--{alias}" for alias in setting.aliases)]
    common: dict[str, Any] = {"cls": Option, "topic": setting.topic, "default": None, "hidden": hidden}
    if setting.flag:
        return click.option(*flags, setting.parameter, is_flag=True, help=setting.help, **common)
    # `webhook` uses etcd only if a server is given.
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
    """Add an option for each setting that ``command`` accepts; those that it does not use are hidden.

    The function gets them as ``loaded``, with logging set up; ``quiet``: by default log only warnings.
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
    """An option that is not a setting; the environment variable of ``--a-b`` is ``KUBE2ETCD_A_B``."""
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
    """Accepts ``--objects a.yaml b.yaml``, as from a shell glob: every FILE up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each FILE its own ``--objects``."""
        spread: list[str] = []
        taking = False
        for before, arg in pairwise(["", *args]):
            file = arg == "-" or not arg.startswith("-")
            taking = arg == "--objects" or (taking and file)
            spread += ["--objects", arg] if taking and file and before != "--objects" else [arg]
        try:
            return super().parse_args(ctx, spread)
        except click.UsageError as error:
            # For surplus arguments click raises exactly this class, with the arguments in parentheses.
            extra = error.message.rpartition("(")[2].rstrip(")").split()
            files = [arg for arg in extra if "--objects" not in args and Path(arg).is_file()]
            if type(error) is not click.UsageError or not files:
                raise
            hint = f"manifests are named by --objects {' '.join(files)}"
            raise click.UsageError(f"{error.format_message()}; {hint}", ctx) from None


def reads(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that parses an option or argument with ``parse``, which raises `ValueError`."""

    def callback(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            wrong = f"{text!r} is not a DNS name: {error}" if isinstance(error, InvalidName) else error
            if isinstance(param, click.Option):
                typed = ctx.get_parameter_source(param.name or "") is not ParameterSource.ENVIRONMENT
                wrong = f"{param.opts[0] if typed else param.envvar} {wrong}"
            raise click.UsageError(str(wrong), ctx) from None

    return callback


def publisher_of(settings: Settings, objects: tuple[str, ...], progress: Progress, **how: bool) -> Any:
    """The publisher of the manifests if given, else of the cluster."""
    if objects:
        from kube2etcd.app.offline import from_files

        return from_files(settings, objects, **how)
    from kube2etcd.app.once import listed

    return listed(settings, progress)


#: Seconds between updates of the progress line.
EVERY = 0.1


def progress_line(what: str, done: int, total: int, seconds: float, width: int) -> str:
    """``what: done of total (rate, time left)``, cut to ``width`` columns, ``seconds`` after it began."""
    line = what
    if done or total:
        line += f": {done:,}" + (f" of {total:,}" if total else "")
    if 0 < done < total and seconds > 0:
        rate = done / seconds
        line += f" ({rate:,.0f}/s, {(total - done) / rate:.0f} s left)"
    elif not total:
        line += "…"
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def columns(terminal: TextIO) -> int:
    """The width of a terminal; 80 if unknown."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


class Progress:
    """A progress line on stderr, overwritten in place; silent if stderr is not a terminal."""

    def __init__(self) -> None:
        # stderr is None if it was closed.
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0
        self._what, self._began, self._next = "", 0.0, 0.0

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Replace the line, unless it was updated for the same activity just now."""
        if not self._shown:
            return
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
        elif now < self._next:
            return
        self._next = now + EVERY
        # The last column stays empty, since a terminal may wrap after it.
        text = progress_line(what, done, total, now - self._began, columns(sys.stderr) - 1)
        click.echo("\r" + text.ljust(self._width), nl=False, err=True)
        self._width = len(text)

    def __enter__(self) -> Progress:
        # Before the filters that write lines of their own.
        for handler in logging.getLogger().handlers:
            handler.filters.insert(0, self._clear)
        return self

    def __exit__(self, *_: object) -> None:
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._clear)
        self._clear()

    def _clear(self, *_: object) -> bool:
        """Make room for a log line; the next call writes the progress below it."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width, self._next = 0, 0.0
        return True
