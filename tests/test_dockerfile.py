"""Static checks of the Dockerfile; tests/stack/test_dockerfile.py runs its steps."""

import configparser
import json
import re
import subprocess
import tomllib

from kube2etcd.settings import Settings
from tests.dockerfile import DOCKERFILE, ROOT, ignored, patterns, stages

ARGUMENTS, STAGES = stages(DOCKERFILE.read_text())
FINAL = STAGES[-1]


def test_every_base_image_is_the_argument_that_a_release_pins() -> None:
    assert list(ARGUMENTS) == ["PYTHON_IMAGE"]
    assert [stage.base for stage in STAGES] == ["${PYTHON_IMAGE}"] * 2
    assert re.fullmatch(r"python:3\.\d+-slim", ARGUMENTS["PYTHON_IMAGE"]), (
        "a digest here would not be updated"
    )
    version = tuple(map(int, re.findall(r"\d+", ARGUMENTS["PYTHON_IMAGE"])))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert f"Python :: {version[0]}.{version[1]}\n" in setup["metadata"]["classifiers"] + "\n"


def test_final_stage_contains_only_the_build() -> None:
    copies = FINAL.of("COPY")
    assert [(one.flags, one.words) for one in copies] == [
        ({"from": "build"}, ["/opt/kube2etcd", "/opt/kube2etcd"])
    ]
    assert [stage.name for stage in STAGES] == ["build", ""]
    for run in (run for stage in STAGES for run in stage.of("RUN")):
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget|gcc|git)\b", run.value)
    (run,) = FINAL.of("RUN")
    assert "install " not in run.value.replace("uninstall ", "")


def test_dependencies_and_build_backend_are_pinned() -> None:
    (install,) = (run for run in STAGES[0].of("RUN") if " install " in run.value)
    assert "--constraint requirements/ci.txt" in install.value
    assert "PIP_BUILD_CONSTRAINT=requirements/build.txt" in install.value
    lines = (ROOT / "requirements" / "build.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert pinned == {re.split("[<>=~!]", one)[0].strip() for one in backend}


def test_container_runs_the_bridge_as_a_numeric_user() -> None:
    (user,) = FINAL.of("USER")
    uid, _, gid = user.value.partition(":")
    assert (int(uid) > 0, int(gid) > 0) == (True, True), "runAsNonRoot takes numbers only"
    (entrypoint,) = FINAL.of("ENTRYPOINT")
    assert json.loads(entrypoint.value) == ["kube2etcd"]
    assert [one.keyword for one in FINAL.instructions].index("USER") > max(
        number for number, one in enumerate(FINAL.instructions) if one.keyword in ("RUN", "COPY")
    )
    assert [one.value for one in FINAL.of("EXPOSE")] == [str(Settings().listen.port)]


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode == 0:
        return done.stdout.splitlines()
    # an unpacked archive has no index and no other files
    return [str(file.relative_to(ROOT)) for file in ROOT.rglob("*") if file.is_file()]


def test_dockerignore_admits_exactly_what_is_copied() -> None:
    sources = {
        word for stage in STAGES for one in stage.of("COPY") if not one.flags for word in one.words[:-1]
    }
    files = tracked()
    admitted = [path for path in files if not ignored(path, patterns())]
    copied = [path for path in files if any(path == one or path.startswith(f"{one}/") for one in sources)]
    assert admitted == copied
    for source in sources:
        assert any(path == source or path.startswith(f"{source}/") for path in files), source
