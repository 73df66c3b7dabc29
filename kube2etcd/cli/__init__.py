"""The command line: parse, build, call.  The only place that knows `click`, exit codes and terminals."""

from kube2etcd.cli import show, write
from kube2etcd.cli.group import main

__all__ = ["main", "show", "write"]
