from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.app.offline import from_files
from kube2etcd.errors import ObjectsError
from kube2etcd.kube.store import Unit
from kube2etcd.settings import Settings, load

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}}}\n"


def test_manifests_are_published_with_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVICE.format(name="a", address="10.0.0.1"))
    publisher = from_files(load({"etcd_prefix": "/x", "owner_id": "me"}, {}), [str(file)])
    assert b"/x/local/cluster/svc/default/a" in publisher.desired
    assert all(b'"owner":"me"' in value for value in publisher.desired.values())


def test_later_document_of_one_object_wins(tmp_path: Path) -> None:
    for name, address in (("1.yaml", "10.0.0.1"), ("2.yaml", "10.0.0.2")):
        (tmp_path / name).write_text(SERVICE.format(name="a", address=address))
    publisher = from_files(Settings(), [str(tmp_path)])
    hosts = {str(one.data) for one in publisher.published(Unit("services", "default", "a")).records}
    assert hosts == {"10.0.0.2"}


@pytest.mark.parametrize(
    ("content", "hint"), [("{", "cannot be read as YAML or JSON"), ("a: [", "cannot be read as YAML")]
)
def test_invalid_file(tmp_path: Path, content: str, hint: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(ObjectsError, match=hint):
        from_files(Settings(), [str(file)])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_everything_skipped_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.yaml").write_text("kind: ConfigMap\n---\nkind: Deployment\n---\nkind: Servise\n")
    (tmp_path / "2.yaml").write_text("kind: List\nitems: [null]\n---\nkind: ConfigMap\n")
    (tmp_path / "3.yaml").write_text("---\n")
    (tmp_path / "4.yaml").write_text(SERVICE.format(name="a", address="10.0.0.300"))
    from_files(Settings(), [str(tmp_path)])
    assert warnings(caplog) == [
        f"{tmp_path}/2.yaml: document 1.items[0] is no object: it is empty",
        f"{tmp_path}/3.yaml holds no object",
        "services/default/a: cluster address left out: '10.0.0.300' is not an IP address",
        "ignored, since these kinds have no DNS names: 2 ConfigMap, 1 Deployment, 1 Servise",
    ]


def test_kinds_without_names_by_the_settings_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n"
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {name: a}\n"
    )
    from_files(load({"pods": "verified"}, {}), [str(file)])
    assert warnings(caplog) == ["1 virtualmachineinstances have no names without --vm-domain"]


def test_no_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ObjectsError, match="--objects is empty"):
        from_files(Settings(), [""])
    with pytest.raises(ObjectsError, match="no file that ends in"):
        from_files(Settings(), [str(tmp_path)])
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ObjectsError, match="is closed"):
        from_files(Settings(), ["-"])
