"""The command line: parse, build, call.  Only this package knows `click`, exit codes and terminals."""

from kube2etcd.cli import show, write
from kube2etcd.cli.group import main

__all__ = ["main", "show", "write"]
