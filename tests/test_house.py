"""Rules of the repository: setup.cfg, links in documents, log lines, private attributes, class names."""

import ast
import configparser
import json
import re
from pathlib import Path

import pytest

from tests.bench import report

TOP = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(TOP / "setup.cfg")


@pytest.mark.parametrize("shell", SETUP["coverage:run"]["omit"].split())
def test_thin_shells_exist(shell: str) -> None:
    assert list(TOP.glob(shell)), "renamed or deleted? Take it out of [coverage:run] omit"


def test_every_package_is_installed() -> None:
    packages = {
        ".".join(file.parent.relative_to(base).parts)
        for base in (TOP, TOP / "skydns-compat")
        for package in ("kube2etcd", "skydns_compat")
        for file in (base / package).rglob("__init__.py")
    }
    assert packages == set(SETUP["options"]["packages"].split())


DOCUMENTS = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


def test_contributing_fits_on_a_screen() -> None:
    assert len((TOP / "CONTRIBUTING.md").read_text().splitlines()) <= 64


def test_modules_in_the_data_flow_exist() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    picture = text.split("```")[1]
    modules = re.findall(r"\b((?:kube|sync|zones|etcd|webhook)/\w+)", picture)
    assert len(modules) > 10
    assert not [module for module in modules if not list((TOP / "kube2etcd").glob(f"{module}*"))]


def test_table_of_packages_is_complete() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
    packages = {file.parent.name for file in (TOP / "kube2etcd").glob("*/__init__.py")}
    assert sorted(listed) == sorted({f"kube2etcd.{name}" for name in packages} | {"skydns_compat"})


def test_performance_document_is_generated_from_its_figures() -> None:
    files = report.document(json.loads(report.FIGURES.read_text()))
    assert {name: (report.DOCS / name).read_text() for name in files} == files


def test_log_lines_have_no_keys_in_their_text() -> None:
    # With --log-format json only fields are keys of the object.
    found = [
        f"{file.relative_to(TOP)}:{node.lineno}"
        for file in sorted((TOP / "kube2etcd").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and re.fullmatch(r"_?log\.\w+", ast.unparse(node.func))
        and re.search(r"\w=%|\w=\{", ast.unparse(node.args[0]))
    ]
    assert not found


#: Private attributes that tests use, and why; do not add any.
PRIVATE = {
    "_collector_to_names": "prometheus-client lists its metrics nowhere else",
    "_replace": "a method of named tuples",
    "_physical_pull": "waitress: no other way to reach the moment between two wake-ups",
    "_server": "the same",
    "_thread": "the same",
    "_watch": "the follower's pauses, without its thread",
}


def test_tests_use_no_private_attributes() -> None:
    seen = set()
    for file in sorted((TOP / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner not in ("self", "cls", "os", "sys"):
                    seen.add(node.attr)
    assert seen <= set(PRIVATE), f"private attributes in tests: {sorted(seen - set(PRIVATE))}"


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = {}
    for package in (TOP / "kube2etcd", TOP / "skydns-compat"):
        for file in package.rglob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(file.name)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
