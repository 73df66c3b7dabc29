"""Logging on stderr: one line per event, as text or JSON, without secrets or floods.

`setup` is called once, by the command line; every module then logs through
``logging.getLogger(__name__)``.  Fields beside the message go in ``extra={"fields": {...}}``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

#: Seconds within which the same line is written only once.
REPEAT_WINDOW = 30.0
#: Number of different lines remembered; beyond it the oldest is forgotten.
REPEAT_MEMORY = 1000
#: Maximum number of similar lines, such as one per refused key, that are written at once.
MAX_LINES = 100
#: Characters of a message that are written or remembered, since others choose keys and names.
MAX_MESSAGE = 16_000

_ROOT = "kube2etcd"
_SECRETS = re.compile(
    r"(?P<keep>\bBearer\s+|\b(?:token|password|passwd|secret)\b[\"']?\s*[=:]\s*[\"']?)[^\s\"',;}&]+"
    r"|(?P<user>://[^/\s:@]+:)[^/\s@]+(?=@)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` with tokens and passwords masked."""
    return _SECRETS.sub(lambda match: (match["keep"] or match["user"]) + "***", text)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _logfmt(record: logging.LogRecord) -> str:
    """The fields as `` key=value``."""
    return "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())


def printable(text: str) -> str:
    """The text with control characters escaped, since others choose names and addresses."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Formatter(logging.Formatter):
    """One line per record: ``TIME LEVEL module: message key=value`` or, with ``as_json``, a JSON object of
    time, level, logger, message and the fields."""

    def __init__(self, as_json: bool = False) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        moment = f"{seconds}.{int(record.msecs):03d}Z"
        message = self._message(record)
        if not self._as_json:
            name = record.name.removeprefix(_ROOT + ".")
            return f"{moment} {record.levelname:<7} {name}: {message}{_logfmt(record)}"
        line = {key: redact(one) if isinstance(one, str) else one for key, one in _fields(record).items()}
        line |= {"time": moment, "level": record.levelname.lower(), "logger": record.name, "message": message}
        return json.dumps(line, ensure_ascii=False, default=str)

    def _message(self, record: logging.LogRecord) -> str:
        """The message on one line, with the traceback of an unforeseen error folded in."""
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        # Redacted before it is cut: the rest of a token would not be recognized.
        text = redact(" | ".join(part.strip() for part in text.splitlines() if part.strip()))
        if len(text) > MAX_MESSAGE:
            text = text[: MAX_MESSAGE // 2] + " … " + text[-MAX_MESSAGE // 2 :]
        return printable(text)


def _quoted(value: object) -> str:
    text = redact(str(value))
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r'[\s"=]', text) else text


def _later(seconds: float, call: Callable[[], None]) -> None:
    """Run ``call`` in a thread of its own after ``seconds``."""
    timer = threading.Timer(seconds, call)
    timer.name, timer.daemon = "log-repeats", True
    timer.start()


@dataclass(slots=True)
class _Seen:
    """A line that was written, and how often it was repeated since ``began``."""

    name: str
    level: int
    message: str
    fields: Mapping[str, Any]
    began: float
    repeats: int = 0


class RepeatFilter(logging.Filter):
    """Passes a line once per window, and logs at the window's end how often it was repeated.

    Reporters log a failure once.  One that comes back within the window, and then stays, would otherwise look
    as if it had ended.
    """

    def __init__(
        self,
        tell: Callable[[logging.LogRecord], None] = lambda record: None,
        window: float = REPEAT_WINDOW,
        memory: int = REPEAT_MEMORY,
        clock: Callable[[], float] = time.time,
        later: Callable[[float, Callable[[], None]], None] = _later,
    ) -> None:
        """``tell`` receives the lines about repeats, from any thread; ``later`` calls after some seconds."""
        super().__init__()
        self._tell, self._window, self._memory = tell, window, memory
        self._clock, self._later = clock, later
        self._seen: OrderedDict[tuple[str, int, str, str], _Seen] = OrderedDict()
        self._scheduled = False
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record now."""
        now = record.created
        error = f" | {record.exc_info[1]!r}" if record.exc_info else ""
        message, fields = (record.getMessage() + error)[:MAX_MESSAGE], _logfmt(record)[:MAX_MESSAGE]
        key = (record.name, record.levelno, message, fields)
        with self._lock:
            expired = list(self._expired(now))
            seen = self._seen.get(key)
            if seen is None:
                self._seen[key] = _Seen(record.name, record.levelno, message, _fields(record), now)
                if len(self._seen) > self._memory:
                    self._seen.popitem(last=False)
            else:
                seen.repeats += 1
                self._schedule(seen.began + self._window - now)
        self._tell_all(expired, now)
        return seen is None

    def _schedule(self, seconds: float) -> None:
        """Look for repeats after this time, unless something will."""
        if self._scheduled:
            return
        with contextlib.suppress(RuntimeError):  # no new thread: the next line reports the repeats
            self._later(min(max(seconds, 0.0), self._window), self._report)
            self._scheduled = True

    def _report(self) -> None:
        now = self._clock()
        with self._lock:
            self._scheduled = False
            expired = list(self._expired(now))
            began = [one.began for one in self._seen.values() if one.repeats]
            if began:
                self._schedule(began[0] + self._window - now)
        self._tell_all(expired, now)

    def _tell_all(self, expired: Sequence[_Seen], now: float) -> None:
        """Log the repeats; outside the lock, as a handler has its own and may write for another thread."""
        for one in expired:
            times = "once more" if one.repeats == 1 else f"{one.repeats} times"
            text = f"{one.message} (repeated {times})"
            line = logging.LogRecord(one.name, one.level, "", 0, text, None, None)
            line.created, line.msecs = now, (now % 1) * 1000
            line.__dict__["fields"] = one.fields
            self._tell(line)

    def _expired(self, now: float) -> Iterator[_Seen]:
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if 0 <= now - seen.began < self._window:  # the clock may be set back
                return
            del self._seen[key]
            if seen.repeats:
                yield seen


def several(lines: Sequence[str], rest: str) -> list[str]:
    """The first `MAX_LINES` lines; if there are more, a last one: ``N more REST``."""
    more = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], f"{more} more {rest}"] if more > 0 else list(lines)


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Within this block, the loggers of these names log only critical lines."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def setup(form: str = "text", level: str = "info", stream: TextIO | None = None) -> logging.Handler:
    """Send this program's log, and warnings and worse of libraries, to ``stream`` (stderr)."""
    root = logging.getLogger()
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(Formatter(as_json=form == "json"))

    def emit(record: logging.LogRecord) -> None:
        if handler not in root.handlers:
            return  # replaced meanwhile, and its stream may be closed
        with handler.lock or contextlib.nullcontext():  # filters run before the handler acquires its lock
            handler.emit(record)

    handler.addFilter(RepeatFilter(emit, REPEAT_WINDOW))
    for old in [one for one in root.handlers if isinstance(one.formatter, Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level.upper())
    return handler
