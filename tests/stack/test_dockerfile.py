"""Runs the Dockerfile's steps without a container engine, each stage in an overlay of this system.

This system and this Python stand in for the base image. Layers, cache and image configuration are not
tested; the steps and their result are.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from kube2etcd import __version__
from tests.dockerfile import DOCKERFILE, ROOT, Stage, ignored, patterns, stages
from tests.stack.process import free_port, run_command

NEEDS_ROOT = "this test mounts a root file system, which is refused here: run it as root"
DIGEST = "python:3.13-slim@sha256:" + "0123456789abcdef" * 4
RELEASE = {"RELEASE": "yes", "REVISION": "0123456789" * 4, "VERSION": __version__, "PYTHON_IMAGE": DIGEST}
BASE_PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
ARGUMENTS, STAGES = stages(DOCKERFILE.read_text())
#: The only variables passed on: access to a package index.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
PASSED_VARIABLES = ("PIP_", "SSL_CERT_", *PROXIES, *map(str.lower, PROXIES))
BASE_PATH = "/usr/local/bin:/usr/bin:/bin"


def build_script(given: Mapping[str, str], context: Path) -> Iterator[str]:
    """A shell script that builds all stages in $top with these build arguments and this context."""
    for number, stage in enumerate(STAGES):
        root, layers = f"$top/{stage.name or 'final'}", f"$top/layers{number}"
        yield f"mkdir -p {root} {layers}/up {layers}/work"
        yield f"mount -t overlay base -o lowerdir=/,upperdir={layers}/up,workdir={layers}/work {root}"
        yield f"mount --rbind /dev {root}/dev"
        yield f"mount -t proc proc {root}/proc"
        # Where the base image has it, executable by any user.
        yield f"printf '%s\\n' '#!/bin/sh' 'exec {BASE_PYTHON} \"$@\"' > {root}/usr/local/bin/python"
        yield f"chmod 755 {root}/usr/local/bin/python"
        for folder in list(BASE_PYTHON.parents)[:-1]:
            yield f"chmod a+x {root}{folder}"
        yield from stage_script(stage, root, given, context)


def stage_script(stage: Stage, root: str, given: Mapping[str, str], context: Path) -> Iterator[str]:
    """A shell script with the instructions of a stage."""
    known: dict[str, str] = {"PATH": BASE_PATH}
    folder = "/"
    for one in stage.instructions:
        if one.keyword == "ARG":
            for name, default in one.pairs().items():
                known[name] = given.get(name, default or ARGUMENTS.get(name, ""))
        elif one.keyword == "ENV":
            for name, value in one.pairs().items():
                known[name] = value.replace("$PATH", known["PATH"])
        elif one.keyword == "WORKDIR":
            folder = one.value
            yield f"mkdir -p {root}{folder}"
        elif one.keyword == "COPY":
            *sources, target = one.words
            target = f"{root}{target}" if target.startswith("/") else f"{root}{folder}/{target}"
            origin = f"$top/{one.flags['from']}" if "from" in one.flags else shlex.quote(str(context))
            for inside in (f"{origin}/{source.removeprefix('/')}" for source in sources):
                contents = f"$(test -d {inside} && echo /.)"
                yield f"mkdir -p {target} && cp -a {inside}{contents} {target}"
        elif one.keyword == "RUN":
            yield in_root(root, f"cd {shlex.quote(folder)}\n{one.value}", known)


def run(lines: Iterable[str], top: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace, with mounts below the empty directory ``top``."""
    # A tmpfs, since an overlay cannot be the upper directory of another.
    head = ["set -eu", "umask 022", f"top={shlex.quote(str(top))}", 'mount -t tmpfs none "$top"']
    return run_command("unshare", "--mount", "--", "sh", "-c", "\n".join([*head, *lines]), timeout=600)


def in_root(root: str, command: str, environment: Mapping[str, str], user: str = "") -> str:
    """The command in that root; without ``user`` it is a build step and may use the package index."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_VARIABLES)}
    known = environment if user else {**passed, "HOME": "/root", **environment}
    words = [f"{name}={value}" for name, value in known.items()]
    change = ["chroot", *([f"--userspec={user}"] if user else [])]
    return f"{shlex.join(change)} {root} env -i {shlex.join(words)} /bin/sh -c {shlex.quote(command)}"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The build context: the checkout without what .dockerignore excludes."""
    folder = tmp_path / "context"
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT).as_posix()
        if relative.split("/")[0] in (".git", ".tox") or not path.is_file() or ignored(relative, patterns()):
            continue
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / relative)
    return folder


def inspection_script() -> list[str]:
    """A shell script that inspects the final root as its user, read-only."""
    (user,) = (one.value for one in STAGES[-1].of("USER"))
    root = "$top/final"
    port = free_port()
    checks = {
        "version": "kube2etcd --version",
        "who": "id -u",
        "records": "kube2etcd records --output zone --type A --objects - </tmp/shop.yaml",
        "clients": f"kube2etcd resync --kube-master-url https://127.0.0.1:{port} 2>&1 || echo exit $?",
        "pip": "for one in pip ensurepip; do python -m $one --version >/dev/null 2>&1 && echo $one; done; :",
        "packages": "ls -d /opt/kube2etcd/lib/python3*/site-packages/*.dist-info | sed 's,.*/,,'",
        "programs": "ls /opt/kube2etcd/bin",
        "written": "find /opt/kube2etcd ! -user 0 -o -perm -2 ! -type l | head -3",
        "source": "ls -d /src 2>/dev/null || :",
        "closed": "touch /opt/kube2etcd/x /x 2>&1 || :",
    }
    lines = [f"cp {shlex.quote(str(ROOT / 'examples' / 'shop.yaml'))} {root}/tmp/shop.yaml"]
    lines.append(f"mount -o remount,ro {root}")
    environment = {"PATH": f"/opt/kube2etcd/bin:{BASE_PATH}", "PYTHONDONTWRITEBYTECODE": "1"}
    for name, command in checks.items():
        lines += [f"echo '== {name}'", in_root(root, command, environment, user)]
    return lines


def test_build_steps_produce_the_image(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = run([*build_script(RELEASE, context), *inspection_script()], tmp_path_factory.mktemp("top"))
    refused = done.returncode and re.search("not permitted|[Pp]ermission denied|superuser", done.stderr)
    assert not refused, f"{NEEDS_ROOT}\n{done.stderr}"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    _, *sections = re.split("^== ", done.stdout, flags=re.MULTILINE)
    seen = {name: lines for name, *lines in map(str.splitlines, sections)}
    assert seen["version"] == [f"kube2etcd, version {__version__}"]
    assert seen["who"] == ["65532"]
    assert any("10.96.20.10" in line for line in seen["records"])
    assert seen["clients"][-1] == "exit 1"
    assert seen["clients"][0].startswith("Error: ")
    assert len(seen["clients"]) == 2, "the error is one line"
    assert seen["pip"] == []
    names = {line.split("-")[0] for line in seen["packages"]}
    assert {"kube2etcd", "etcd3", "grpcio"} <= names
    assert not names & {"pip", "setuptools", "wheel", "pytest", "mypy", "hypothesis", "ruff"}
    assert "kube2etcd" in seen["programs"]
    assert not [program for program in seen["programs"] if program.startswith("pip")]
    assert seen["written"] == []
    assert seen["source"] == [], "the source is not in the final stage"
    assert all("Read-only file system" in line for line in seen["closed"])
    assert len(seen["closed"]) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"PYTHON_IMAGE": "python:3.13-slim"}, "names its base by digest"),
        ({"PYTHON_IMAGE": DIGEST[:-1]}, "names its base by digest"),
        ({"REVISION": ""}, "names its commit"),
        ({"VERSION": "9.9.9"}, f"VERSION=9.9.9, but this is: kube2etcd, version {__version__}"),
    ],
    ids=["a base without a digest", "a truncated digest", "no commit", "another version"],
)
def test_release_build_requires_version_commit_and_base_digest(
    wrong: dict[str, str], message: str, tmp_path: Path
) -> None:
    (check,) = (run.value for run in STAGES[0].of("RUN") if "RELEASE" in run.value)
    program = tmp_path / "kube2etcd"
    program.write_text(f"#!/bin/sh\necho kube2etcd, version {__version__}\n")
    program.chmod(0o755)
    check = check.replace("/opt/kube2etcd/bin/kube2etcd", str(program))
    bad = {**RELEASE, **wrong}
    for environment, code in ((RELEASE, 0), (bad, 1), ({**bad, "RELEASE": ""}, 0)):
        done = run_command("/bin/sh", "-c", check, env={"PATH": BASE_PATH, **environment})
        assert done.returncode == code, done.stderr
        assert (message in done.stderr) == bool(code)
