"""Runs a pod's container as a process: root filesystem, mounts, user, capabilities, environment.

It does what manifests configure of a container runtime: read-only root, volumes, unprivileged user, the
pod's network.
"""

import os
import re
import shlex
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kube2etcd
import skydns_compat

#: The host's programs and libraries, mounted in every image.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ld.so.cache")
#: References to environment variables in a manifest's arguments.
_VARIABLE = re.compile(r"\$\((\w+)\)")
_PATH = "/image:/usr/local/bin:/usr/bin:/bin"
_PACKAGES = "/image/packages"


@dataclass(frozen=True, slots=True)
class Image:
    """An image: the programs on its PATH, and its entrypoint."""

    entrypoint: tuple[str, ...]
    programs: Mapping[str, Path]
    directories: tuple[str, ...] = ()
    """Mounted at the same path as on the host."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Mounted at other paths, by the path in the image."""
    environment: Mapping[str, str] = field(default_factory=dict)


def images(binaries: Mapping[str, Path], directory: Path) -> dict[str, Image]:
    """The addons' images by the last part of their names, from the servers and this package."""
    directory.mkdir(parents=True, exist_ok=True)
    # Only the packages: the checkout around them may be accessible to its owner alone.
    packages = {
        f"{_PACKAGES}/{module.__name__}": Path(module.__path__[0]) for module in (kube2etcd, skydns_compat)
    }
    wrapper = directory / "kube2etcd"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kube2etcd "$@"\n')
    wrapper.chmod(0o755)
    return {
        "etcd": Image((), {"etcd": binaries["etcd"]}),
        "coredns": Image(("coredns",), {"coredns": binaries["coredns"]}),
        "external-dns": Image(("external-dns",), {"external-dns": binaries["external-dns"]}),
        "kube2etcd": Image(
            ("kube2etcd",),
            {"kube2etcd": wrapper},
            tuple(sorted({sys.prefix, sys.base_prefix})),
            packages,
            {"PYTHONPATH": _PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
        ),
    }


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file that a container sees at another path."""

    source: Path
    target: str
    read_only: bool


def command(
    container: Mapping[str, Any],
    pod: Mapping[str, Any],
    image: Image,
    network: str,
    mounts: Iterable[Mount],
    environment: Mapping[str, str],
    root: Path,
) -> list[str]:
    """The command that runs ``container`` of the pod spec ``pod`` in the network namespace ``network``.

    It execs the program, so PID, signals and exit code are the program's.
    """
    root.mkdir(parents=True, exist_ok=True)
    script = [
        "set -e",
        f"root={shlex.quote(str(root))}",
        "mount -t tmpfs -o mode=0755 image $root",
        "mkdir -m 0755 $root/image $root/etc $root/proc $root/dev",
        "mkdir -m 1777 $root/tmp",
        "mount --rbind /proc $root/proc",
        "mount --rbind /dev $root/dev",
    ]
    for path in sorted({*_SYSTEM, *image.directories}):
        if Path(path).is_symlink():
            script.append(f"[ -e $root{path} ] || ln -s {shlex.quote(os.readlink(path))} $root{path}")
        elif Path(path).exists():
            script += _bind(Mount(Path(path), path, read_only=True))
    for target, source in image.mounts.items():
        script += _bind(Mount(source, target, read_only=True))
    for name, program in image.programs.items():
        script += _bind(Mount(program, f"/image/{name}", read_only=True))
    for mount in mounts:
        script += _bind(mount)
    security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    if security.get("readOnlyRootFilesystem"):
        script.append("mount -o remount,ro $root")
    argv = [*(container.get("command") or image.entrypoint), *container.get("args", ())]
    given = {"PATH": _PATH, "HOME": "/", **image.environment, **environment}
    inside = [
        "/usr/bin/env",
        "-i",
        *(f"{name}={value}" for name, value in given.items()),
        "setpriv",
        *_setpriv_options(security),
        *(_VARIABLE.sub(lambda each: environment.get(each[1], each[0]), word) for word in argv),
    ]
    script.append(f"exec chroot $root {shlex.join(inside)}")
    return [
        *("nsenter", f"--net={network}", "--"),
        *("unshare", "--mount", "--propagation=private", "--"),
        *("sh", "-c", "\n".join(script)),
    ]


def _bind(mount: Mount) -> list[str]:
    source, target = shlex.quote(str(mount.source)), f"$root{shlex.quote(mount.target)}"
    make = f"mkdir -p -m 0755 {target}"
    if not mount.source.is_dir():
        make = f"mkdir -p -m 0755 $(dirname {target}) && touch {target}"
    # On a read-only mount the target exists already and nothing can be created.
    bound = [f"[ -e {target} ] || {{ {make}; }}", f"mount --bind {source} {target}"]
    if mount.read_only:
        bound.append(f"mount -o remount,bind,ro {target}")
    return bound


def _setpriv_options(security: Mapping[str, Any]) -> Sequence[str]:
    """setpriv's options for a security context; by default root with all capabilities."""
    options = ["--pdeathsig=KILL"]
    if security.get("runAsNonRoot") and not security.get("runAsUser"):
        raise ValueError("runAsNonRoot without runAsUser depends on the image")
    if security.get("runAsUser"):
        user, group = security["runAsUser"], security.get("runAsGroup", 0)
        groups = [str(one) for one in (group, security.get("fsGroup")) if one is not None]
        options += [f"--reuid={user}", f"--regid={group}", f"--groups={','.join(dict.fromkeys(groups))}"]
    capabilities = security.get("capabilities", {})
    if "ALL" in capabilities.get("drop", ()):
        added = [f"+{name.lower()}" for name in capabilities.get("add", ())]
        options += [f"--bounding-set={','.join(['-all', *added])}", "--inh-caps=-all"]
    if security.get("allowPrivilegeEscalation") is False:
        options.append("--no-new-privs")
    return options


def chown_to_group(directory: Path, group: int) -> None:
    """Make a volume writable to a pod's group, as the kubelet does for ``fsGroup``."""
    os.chown(directory, -1, group)
    directory.chmod(stat.S_ISGID | 0o775)
