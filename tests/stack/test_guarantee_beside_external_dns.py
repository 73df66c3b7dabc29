"""The bridge and ExternalDNS's coredns provider on one etcd leave each other's keys alone."""

from __future__ import annotations

from pathlib import Path

from tests.stack.external_dns import ExternalDns, ingress
from tests.stack.faults import metric, running
from tests.stack.harness import ApiServer, Etcd
from tests.stack.objects import service, services

#: The last two lie within the bridge's own zone.
HOSTS = ("c.example.org", "c.cluster.local", "c.default.svc.cluster.local")


def test_neither_touches_what_the_other_has_written(
    binaries: dict[str, Path], apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(20))
    strict = ["--provider=coredns", "--coredns-strictly-owned"]
    other = ExternalDns(tmp_path / "other", binaries, apiserver, strict)
    env = {"ETCD_URLS": etcd.url, "HOME": str(tmp_path)}
    with running(tmp_path, apiserver.kubeconfig(), etcd, "--resync-period", "1") as bridge:
        ours = etcd.dump("/skydns")

        def theirs() -> dict[str, str]:
            return {key: value for key, value in etcd.dump("/skydns").items() if '"owner":"me"' in value}

        writes = metric(bridge, "kube2etcd_writes_total")
        for address in ("10.9.0.1", "10.9.0.2"):
            apiserver.apply(ingress("c", *HOSTS, to=[address]))
            other.once(env=env)
            written = theirs()
            found = {key for key, value in written.items() if f'"{address}"' in value}
            for host in HOSTS:
                path = "/skydns/" + "/".join(reversed(host.split(".")))
                assert [key for key in found if key.startswith(f"{path}/")], host
            bridge.full_passes(3)
            revision = etcd.revision()
            other.once(env=env)
            bridge.full_passes(3)
            assert etcd.revision() == revision, "neither has anything to do"
            present = etcd.dump("/skydns")
            assert {key: present.get(key) for key in ours} == ours
            assert theirs() == written
        assert metric(bridge, "kube2etcd_writes_total") == writes
        assert metric(bridge, "kube2etcd_foreign_keys") > 0
        # ours go on, and its names may go
        apiserver.apply(service("later"))
        apiserver.delete(ingress("c", to=[]))
        other.once(env=env)
        assert not [key for key, value in theirs().items() if '"10.9.0' in value]
        bridge.full_passes(1)
        present = etcd.dump("/skydns")
        assert {key: present.get(key) for key in ours} == ours
        assert [key for key in present if "/default/later" in key]
        assert bridge.ready()
