"""The steps of the Dockerfile in their order, each stage in a throw-away root over the system of the test.

There is no container engine in it: the base image is stood in for by this system and this Python, and what an
engine adds (layers, cache, the image's configuration) is not seen. What the steps do, and what is there in
the end, is.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kube2etcd import __version__
from tests.dockerfile import DOCKERFILE, ROOT, ignored, patterns, stages
from tests.stack.process import finished, free_port

RIGHTS = "this test mounts a root of its own, which is refused here: run it as root"
REVISION = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "python:3.13-slim@sha256:" + "0123456789abcdef" * 4
BASE_PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
ARGUMENTS, STAGES = stages(DOCKERFILE.read_text())
#: How a package index is reached, and its certificates checked; nothing else of our environment gets in.
PASSED = (
    "PIP_",
    "SSL_CERT_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
START = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class Script:
    """One shell script that is the build; ``{top}`` is a folder in memory that goes with it."""

    given: Mapping[str, str]
    lines: list[str] = field(default_factory=list)

    def build(self, context: Path) -> None:
        """All stages, each over the system below it."""
        for number, stage in enumerate(STAGES):
            root = f"$top/{stage.name or 'final'}"
            layers = f"$top/layers{number}"
            self.lines += [
                f"mkdir -p {root} {layers}/up {layers}/work",
                f"mount -t overlay base -o lowerdir=/,upperdir={layers}/up,workdir={layers}/work {root}",
                f"mount --rbind /dev {root}/dev",
                f"mount -t proc proc {root}/proc",
                # what the base image has at this place, and lets anybody start
                f"printf '%s\\n' '#!/bin/sh' 'exec {BASE_PYTHON} \"$@\"' > {root}/usr/local/bin/python",
                f"chmod 755 {root}/usr/local/bin/python",
                *(f"chmod a+x {root}{folder}" for folder in list(BASE_PYTHON.parents)[:-1]),
            ]
            self._stage(number, root, context)

    def _stage(self, number: int, root: str, context: Path) -> None:
        known: dict[str, str] = {"PATH": START}
        folder = "/"
        for one in STAGES[number].instructions:
            if one.keyword == "ARG":
                for name, default in one.pairs().items():
                    known[name] = self.given.get(name, default or ARGUMENTS.get(name, ""))
            elif one.keyword == "ENV":
                for name, value in one.pairs().items():
                    known[name] = value.replace("$PATH", known["PATH"])
            elif one.keyword == "WORKDIR":
                folder = one.value
                self.lines.append(f"mkdir -p {root}{folder}")
            elif one.keyword == "COPY":
                self._copy(one.words, one.flags, f"{root}{folder}", root, context)
            elif one.keyword == "RUN":
                self.lines.append(enter(root, f"cd {shlex.quote(folder)}\n{one.value}", known))

    def _copy(self, words: list[str], flags: Mapping[str, str], here: str, root: str, context: Path) -> None:
        *sources, target = words
        target = f"{root}{target}" if target.startswith("/") else f"{here}/{target}"
        origin = f"$top/{flags['from']}" if "from" in flags else shlex.quote(str(context))
        for source in sources:
            inside = f"{origin}/{source.removeprefix('/')}"
            self.lines.append(
                f"if [ -d {inside} ]; then mkdir -p {target} && cp -a {inside}/. {target};"
                f" else mkdir -p {target} && cp -a {inside} {target}; fi"
            )

    def run(self, top: Path) -> subprocess.CompletedProcess[str]:
        """The script in a mount namespace; what it mounts on the empty folder ``top`` goes with it."""
        head = ["set -eu", "umask 022", f"top={shlex.quote(str(top))}"]
        # memory, since a root that is itself an overlay cannot hold the upper side of another one
        head += ['mount -t tmpfs none "$top"']
        script = "\n".join([*head, *self.lines])
        return finished("unshare", "--mount", "--", "sh", "-c", script, timeout=600)


def enter(root: str, command: str, environment: Mapping[str, str], user: str = "") -> str:
    """The command in that root with this environment and the package index's alone."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    words = [f"{name}={value}" for name, value in {**passed, "HOME": "/root", **environment}.items()]
    if user:
        words = [f"{name}={value}" for name, value in environment.items()]
    change = ["chroot", *([f"--userspec={user}"] if user else [])]
    return f"{shlex.join(change)} {root} env -i {shlex.join(words)} /bin/sh -c {shlex.quote(command)}"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What .dockerignore lets into the build of this checkout, and nothing else."""
    folder = tmp_path / "context"
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT).as_posix()
        if relative.split("/")[0] in (".git", ".tox") or not path.is_file() or ignored(relative, patterns()):
            continue
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / relative)
    return folder


IMAGE_PATH = f"/opt/kube2etcd/bin:{START}"


def looked_at() -> list[str]:
    """The final root as the image is run: nobody's number, nothing that can be written."""
    (user,) = (one.value for one in STAGES[-1].of("USER"))
    root = "$top/final"
    port = free_port()
    # not of the image: the shell of this test and the fault that it waits for
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
    for name, command in checks.items():
        environment = {"PATH": IMAGE_PATH, "PYTHONDONTWRITEBYTECODE": "1"}
        lines += [f"echo '== {name}'", enter(root, command, environment, user)]
    return lines


def sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            found[line[3:]] = []
        elif found:
            found[list(found)[-1]].append(line)
    return found


def test_the_steps_make_the_image(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = Script({"REVISION": REVISION, "VERSION": __version__, "RELEASE": "yes", "PYTHON_IMAGE": DIGEST})
    script.build(context)
    script.lines += looked_at()
    done = script.run(tmp_path_factory.mktemp("top"))
    refused = done.returncode and re.search("not permitted|[Pp]ermission denied|superuser", done.stderr)
    assert not refused, f"{RIGHTS}\n{done.stderr}"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = sections(done.stdout)
    assert seen["version"] == [f"kube2etcd, version {__version__}"]
    assert seen["who"] == ["65532"]
    assert any("10.96.20.10" in line for line in seen["records"])
    assert seen["clients"][-1] == "exit 1"
    assert seen["clients"][0].startswith("Error: ")
    assert len(seen["clients"]) == 2, "a sentence, from the clients of the API server"
    assert seen["pip"] == []
    names = {line.split("-")[0] for line in seen["packages"]}
    assert {"kube2etcd", "etcd3", "grpcio"} <= names
    assert not names & {"pip", "setuptools", "wheel", "pytest", "mypy", "hypothesis", "ruff"}
    assert "kube2etcd" in seen["programs"]
    assert not [program for program in seen["programs"] if program.startswith("pip")]
    assert seen["written"] == []
    assert seen["source"] == [], "the source stays in the stage that builds"
    assert all("Read-only file system" in line for line in seen["closed"])
    assert len(seen["closed"]) == 2


REFUSED = {
    "a base without a digest": ({"PYTHON_IMAGE": "python:3.13-slim"}, "names its base by digest"),
    "a digest cut short": ({"PYTHON_IMAGE": DIGEST[:-1]}, "names its base by digest"),
    "no commit": ({"REVISION": ""}, "names its commit"),
    "another version": (
        {"VERSION": "9.9.9"},
        f"VERSION=9.9.9, but this is: kube2etcd, version {__version__}",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_release_names_version_commit_base(wrong: dict[str, str], message: str, tmp_path: Path) -> None:
    (check,) = (run.value for run in STAGES[0].of("RUN") if "RELEASE" in run.value)
    program = tmp_path / "kube2etcd"
    program.write_text(f"#!/bin/sh\necho kube2etcd, version {__version__}\n")
    program.chmod(0o755)
    check = check.replace("/opt/kube2etcd/bin/kube2etcd", str(program))
    right = {"RELEASE": "yes", "REVISION": REVISION, "VERSION": __version__, "PYTHON_IMAGE": DIGEST}
    for environment, code in ((right, 0), ({**right, **wrong}, 1), ({**right, **wrong, "RELEASE": ""}, 0)):
        done = finished("/bin/sh", "-c", check, env={"PATH": START, **environment})
        assert done.returncode == code, done.stderr
        assert (message in done.stderr) == bool(code)
