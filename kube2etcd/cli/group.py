"""The group that all commands are in, and what becomes of what they raise."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import click
from click.core import ParameterSource

from kube2etcd import __version__
from kube2etcd.errors import Kube2EtcdError, SettingsError

#: Exit code of a dry run that found a difference, as `diff` and `terraform plan` have it.
DIFFERENT = 2
#: Exit code for settings that cannot be used, as click has it for usage.
USAGE = 2
#: How writing to a full disk or a lost mount fails; a closed pipe is left to click.
_UNPRINTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Group(click.Group):
    """Turns what our own code raises into one message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it all; what the terminal's character set has not is written out."""
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Kube2EtcdError as error:
            lines = error.faults if isinstance(error, SettingsError) else (str(error),)
            for line in lines:
                click.echo(f"Error: {line}", err=True)
            ctx.exit(_wrong_usage(ctx) if isinstance(error, SettingsError) else 1)
        except click.UsageError as error:
            if isinstance(error, click.BadParameter):
                _name_the_variable(error)
            error.show()
            ctx.exit(_wrong_usage(ctx))
        except OSError as error:
            if error.errno not in _UNPRINTED:
                raise
            click.echo(f"Error: what was to be printed cannot be written: {error.strerror}", err=True)
            ctx.exit(1)


def _name_the_variable(error: click.BadParameter) -> None:
    """Say which variable it was where the value came from the environment: no such option was typed."""
    ctx, param = error.ctx, error.param
    if ctx is None or param is None or param.name is None:
        return
    if ctx.get_parameter_source(param.name) is ParameterSource.ENVIRONMENT:
        error.param_hint = f"'{param.envvar}'"


def _wrong_usage(ctx: click.Context) -> int:
    """The exit code; of `resync` 2 says that something differs, and nothing else may say so."""
    return 1 if ctx.invoked_subcommand == "resync" else USAGE


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kube2etcd")
def main() -> None:
    """Keep etcd equal to the DNS records of a Kubernetes cluster.

    Every option has an environment variable, KUBE2ETCD_<OPTION>; options beat the environment, the
    environment beats the file of --config.
    """
