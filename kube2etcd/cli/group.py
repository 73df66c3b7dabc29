"""The command group: help by topic, errors and exit codes."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import click
from click.core import ParameterSource

from kube2etcd import __version__
from kube2etcd.errors import Kube2EtcdError, SettingsError
from kube2etcd.settings import TOPICS

#: Exit code of a dry run that found a difference, like `terraform plan -detailed-exitcode`.
DIFFERENT = 2
#: Exit code of `resync --checksum` if the plan has changed.
CHANGED = 3
#: Default exit codes for invalid usage (as click's) and for failures.  `resync` and `explain` give 2 and 1
#: another meaning, so they have the codes in `_OTHER_CODES`.
_USAGE, _FAILED = 2, 1
_OTHER_CODES = {"resync": (1, 1), "explain": (2, 2)}
#: Errors of a full disk or a lost mount.
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: Examples and exit codes at the end of ``COMMAND --help``.
EPILOGS: Final[Mapping[str, str]] = {
    "run": """
Examples:
  kube2etcd run --etcd-server http://127.0.0.1:2379
  kube2etcd run --kubeconfig ~/.kube/config --corefile /etc/coredns/Corefile
  kube2etcd run --config settings.yaml --leader-elect --log-format json

Exit codes:
  0  stopped by SIGTERM or SIGINT
  1  failed
  2  invalid options or settings
""",
    "resync": """
Examples:
  kube2etcd resync --dry-run
  kube2etcd resync --dry-run --objects manifests/ --output json
  kube2etcd resync --checksum 0123456789abcdef
  kube2etcd resync --force

Exit codes:
  0  etcd is in sync; with --dry-run: nothing would change
  1  failed, or changes were refused; also invalid options or settings
  2  with --dry-run: something would change
  3  with --checksum: the plan has changed
""",
    "records": """
Examples:
  kube2etcd records --object service/shop/web
  kube2etcd records --watch --zone cluster.local
  kube2etcd records --zone cluster.local --output zone

Exit codes:
  0  shown, or stopped
  1  failed
  2  invalid options or settings
""",
    "wait": """
Examples:
  kube2etcd wait web.shop.svc.cluster.local
  kube2etcd wait web.shop.svc.cluster.local SRV --timeout 2m --server 10.96.0.10
  kube2etcd wait web.shop.svc.cluster.local --for 10.96.20.10
  kube2etcd wait old.shop.svc.cluster.local --for absent

Exit codes:
  0  the awaited answer arrived
  1  timed out
  2  invalid options
""",
    "explain": """
Examples:
  kube2etcd explain web.shop.svc.cluster.local
  kube2etcd explain 10.96.20.10 --output json
  kube2etcd explain web.shop.svc.cluster.local SRV --objects examples/shop.yaml
  kube2etcd explain web.shop.svc.cluster.local --server 10.96.0.10
  kube2etcd explain web.shop.svc.cluster.local --bridge :8082

Exit codes:
  0  it resolves
  1  it does not
  2  unknown: not served from etcd, nothing answers, failed, or invalid options or settings
""",
}


class _Output(io.FileIO):
    """Discards writes to a closed pipe: click would exit with 1, which has another meaning here."""

    _failed = False

    def write(self, data: Any, /) -> int:
        """Write; any other failure is raised once, not again at exit."""
        try:
            return super().write(data)
        except OSError as error:
            if not (self._failed or isinstance(error, BrokenPipeError)):
                self._failed = True
                raise
            return len(memoryview(data).cast("B"))


def _output(stream: TextIO | None, number: int) -> TextIO:
    """A standard stream that tolerates a closed pipe; ``/dev/null`` if closed.  Others are unchanged."""
    if stream is None:
        return io.TextIOWrapper(_Output(os.open(os.devnull, os.O_WRONLY), "wb", closefd=False))
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    # Escape characters that the terminal's encoding lacks.
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    if stream not in (sys.__stdout__, sys.__stderr__):
        stream.reconfigure(errors=errors)
        return stream
    raw = io.BufferedWriter(_Output(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=stream.line_buffering)


class Option(click.Option):
    """An option with a ``topic``, its heading in ``--help``; empty for the command's own options."""

    def __init__(self, *args: Any, topic: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.topic = topic


class Command(click.Command):
    """Help shows the command's own options, the others by topic, then examples and exit codes."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each topic."""
        sections: dict[str, list[tuple[str, str]]] = {"": [], **{topic: [] for topic in TOPICS}}
        for param in self.get_params(ctx):
            # Newer versions of click list arguments here too, which the usage line has already.
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections[getattr(param, "topic", "")].append(record)
        for topic, records in sections.items():
            if records:
                with formatter.section(topic or "Options"):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit codes without wrapping."""
        formatter.write(EPILOGS.get(self.name or "", ""))


class Group(click.Group):
    """Reports our own exceptions as one message and an exit code."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; closed output streams change neither its effect nor its exit code."""
        sys.stdout, sys.stderr = _output(sys.stdout, 1), _output(sys.stderr, 2)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # The help, which click prints while it parses.
            _tell_unprinted(error)
            sys.exit(_FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Kube2EtcdError as error:
            is_usage = isinstance(error, SettingsError)
            for line in error.faults if isinstance(error, SettingsError) else (str(error),):
                click.echo(f"Error: {line}", err=True)
        except click.UsageError as error:
            is_usage = True
            _name_the_variable(error)
            error.show()
        except OSError as error:
            _tell_unprinted(error)
            is_usage = False
        except KeyboardInterrupt:
            # By the signal, not an exit code: a script would take that for an answer, and go on.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
            raise
        usage, failed = _OTHER_CODES.get(ctx.invoked_subcommand or "", (_USAGE, _FAILED))
        return ctx.exit(usage if is_usage else failed)


def _tell_unprinted(error: OSError) -> None:
    """Say that the output cannot be written; raises any other error again."""
    if error.errno not in _OUTPUT_ERRORS:
        raise error
    click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)


def _name_the_variable(error: click.UsageError) -> None:
    """Blame the variable instead of the option if the value came from the environment."""
    if not isinstance(error, click.BadParameter) or not (error.ctx and error.param and error.param.name):
        return
    if error.ctx.get_parameter_source(error.param.name) is ParameterSource.ENVIRONMENT:
        error.param_hint = f"'{error.param.envvar}'"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kube2etcd")
def main() -> None:
    """Keep etcd equal to the DNS records of a Kubernetes cluster.

    Options under a heading can also be set by KUBE2ETCD_<OPTION> or in the --config file.
    Options take precedence over the environment, and the environment over the file.
    """
