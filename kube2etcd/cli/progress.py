"""What a long command is doing, as one line on a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

import click

#: Seconds between two updates of the line.
EVERY = 0.1


def progress_line(what: str, done: int, total: int, seconds: float, width: int) -> str:
    """``what: done of total (rate, time left)``, cut to ``width`` columns; ``seconds``: since it began."""
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
    """The width of a terminal; 80 if it does not say."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


class Progress:
    """A line on stderr that is overwritten in place; silent if stderr is no terminal."""

    def __init__(self) -> None:
        # None if it was closed.
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0
        self._what, self._began, self._next = "", 0.0, 0.0

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Replace the line, unless one of the same activity was written just now."""
        if not self._shown:
            return
        now = time.monotonic()
        if what != self._what:
            self._what, self._began = what, now
        elif now < self._next:
            return
        self._next = now + EVERY
        # The last column stays empty: a terminal may break the line behind it.
        text = progress_line(what, done, total, now - self._began, columns(sys.stderr) - 1)
        click.echo("\r" + text.ljust(self._width), nl=False, err=True)
        self._width = len(text)

    def __enter__(self) -> Progress:
        # Ahead of the filters that write lines of their own.
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
