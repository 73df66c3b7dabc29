"""What the Dockerfile says; what its steps do is in tests/stack/test_dockerfile.py."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import tomllib

import pytest

from kube2etcd.settings import Settings
from tests.dockerfile import DOCKERFILE, ROOT, ignored, patterns, stages

ARGUMENTS, STAGES = stages(DOCKERFILE.read_text())
FINAL = STAGES[-1]


def test_every_base_is_the_variable_that_a_release_pins() -> None:
    assert list(ARGUMENTS) == ["PYTHON_IMAGE"]
    assert [stage.base for stage in STAGES] == ["${PYTHON_IMAGE}"] * 2
    assert re.fullmatch(r"python:3\.\d+-slim", ARGUMENTS["PYTHON_IMAGE"]), "a digest here would be nobody's"
    version = tuple(map(int, re.findall(r"\d+", ARGUMENTS["PYTHON_IMAGE"])))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert f"Python :: {version[0]}.{version[1]}\n" in setup["metadata"]["classifiers"] + "\n"


def test_what_runs_has_only_what_was_built() -> None:
    copies = FINAL.of("COPY")
    assert [(one.flags, one.words) for one in copies] == [
        ({"from": "build"}, ["/opt/kube2etcd", "/opt/kube2etcd"])
    ]
    assert [stage.name for stage in STAGES] == ["build", ""]
    for run in (run for stage in STAGES for run in stage.of("RUN")):
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget|gcc|git)\b", run.value)
    (run,) = FINAL.of("RUN")
    assert "install " not in run.value.replace("uninstall ", "")


def test_what_is_installed_and_what_builds_it_are_pinned() -> None:
    (install,) = (run for run in STAGES[0].of("RUN") if " install " in run.value)
    assert "--constraint requirements/ci.txt" in install.value
    assert "PIP_BUILD_CONSTRAINT=requirements/build.txt" in install.value
    lines = (ROOT / "requirements" / "build.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert pinned == {re.split("[<>=~!]", one)[0].strip() for one in backend}


def test_it_starts_the_bridge_as_nobody_in_particular() -> None:
    (user,) = FINAL.of("USER")
    uid, _, gid = user.value.partition(":")
    assert (int(uid) > 0, int(gid) > 0) == (True, True), "runAsNonRoot takes numbers only"
    (entrypoint,) = FINAL.of("ENTRYPOINT")
    assert json.loads(entrypoint.value) == ["kube2etcd"]
    assert [one.keyword for one in FINAL.instructions].index("USER") > max(
        number for number, one in enumerate(FINAL.instructions) if one.keyword in ("RUN", "COPY")
    )
    assert [one.value for one in FINAL.of("EXPOSE")] == [str(Settings().listen.port)]


def test_labels_say_what_it_is_and_of_which_commit() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (label,) = FINAL.of("LABEL")
    prefix = "org.opencontainers.image."
    labels = label.pairs()
    assert all(name.startswith(prefix) for name in labels)
    assert {name.removeprefix(prefix): value for name, value in labels.items()} == {
        "title": setup["metadata"]["name"],
        "description": "Keeps etcd equal to the DNS records of a Kubernetes cluster",
        "licenses": setup["metadata"]["license"],
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "base.name": "${PYTHON_IMAGE}",
    }
    order = [one.keyword for one in FINAL.instructions]
    named = {name for one in FINAL.of("ARG") for name in one.pairs()}
    assert {"VERSION", "REVISION", "PYTHON_IMAGE"} <= named, "each stage must ask for an argument again"
    assert order.index("LABEL") > max(number for number, one in enumerate(order) if one == "ARG")


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode == 0:
        return done.stdout.splitlines()
    # an unpacked archive has no index, and holds nothing else
    return [str(file.relative_to(ROOT)) for file in ROOT.rglob("*") if file.is_file()]


IGNORED = {
    ".git/config": True,
    "Dockerfile": True,
    "tests/test_dockerfile.py": True,
    "skydns-compat/README.md": True,
    "requirements/notes.txt": True,
    "kube2etcd/cli/__pycache__/group.cpython-311.pyc": True,
    "kube2etcd/cli/group.py": False,
    "kube2etcd/etcd/wire.py": False,
    "skydns-compat/skydns_compat/names.py": False,
    "requirements/build.txt": False,
    "requirements/ci.txt": False,
    "setup.cfg": False,
}


@pytest.mark.parametrize("path", list(IGNORED))
def test_only_what_is_named_gets_into_the_build(path: str) -> None:
    assert ignored(path, patterns()) == IGNORED[path]


def test_all_that_is_copied_is_let_in_and_all_that_is_let_in_is_copied() -> None:
    sources = {
        word for stage in STAGES for one in stage.of("COPY") if not one.flags for word in one.words[:-1]
    }
    files = tracked()
    let_in = [path for path in files if not ignored(path, patterns())]
    copied = [path for path in files if any(path == one or path.startswith(f"{one}/") for one in sources)]
    assert let_in == copied
    for source in sources:
        assert any(path == source or path.startswith(f"{source}/") for path in files), source


def test_every_package_of_the_wheel_is_copied() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    modules = {path for path in tracked() if path.endswith("/__init__.py") and not path.startswith("tests/")}
    found = {
        path.removeprefix("skydns-compat/").removesuffix("/__init__.py").replace("/", ".") for path in modules
    }
    assert listed == found
