"""Half-open connections are noticed, dropped and replaced."""

from __future__ import annotations

from pathlib import Path

from kube2etcd.kube.client import connect
from kube2etcd.kube.credentials import ClusterSettings
from kube2etcd.kube.objects import KINDS
from kube2etcd.kube.reflector import Reflector
from kube2etcd.sync.events import Changed, Inbox, Listed
from tests.stack.faults import appears, keys_of, running, tunnel_to
from tests.stack.harness import ApiServer, Etcd, wait_for
from tests.stack.objects import service, services


def test_an_etcd_behind_a_connection_that_swallows_is_reached_anew(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    apiserver.apply_all(services(3))
    real = etcd.url
    with tunnel_to(etcd.port) as tunnel:
        etcd.url = f"http://127.0.0.1:{tunnel.port}"
        with running(tmp_path, apiserver.kubeconfig(), etcd) as bridge:
            etcd.url = real
            tunnel.swallow()
            wait_for(lambda: not bridge.ready(), "the silence to be noticed", 20, bridge.process)
            assert bridge.get("/livez").status_code == 200
            apiserver.apply(service("later"))
            carried = tunnel.carried
            tunnel.mend()
            bridge.wait_ready(20)
            assert tunnel.carried > carried
            assert keys_of(etcd, "later")
            # the watch as well
            etcd.delete("/skydns")
            appears(etcd, "later")


def test_a_watch_over_a_connection_that_swallows_is_opened_anew(apiserver: ApiServer) -> None:
    with tunnel_to(apiserver.port) as tunnel:
        server = {"server": f"https://127.0.0.1:{tunnel.port}"}
        kubeconfig = apiserver.kubeconfig(cluster=server, name="tunnelled")
        inbox = Inbox()
        api = connect(ClusterSettings(kubeconfig))
        # a bridge waits for 90 s, which is longer than a quiet watch needs for its bookmarks
        reflector = Reflector(KINDS["services"], api, inbox, inactivity=2.0, connect_timeout=2.0)
        names: set[str] = set()

        def seen(name: str) -> bool:
            for news in inbox.drain(0.1):
                if isinstance(news, Listed):
                    names.update(one.metadata.name for one in news.objects)
                elif isinstance(news, Changed):
                    names.add(news.event.name)
            return name in names

        try:
            reflector.start()
            apiserver.apply(service("before"))
            wait_for(lambda: seen("before"), "the watch", 10)
            tunnel.swallow()
            apiserver.apply(service("unseen"))
            wait_for(lambda: reflector.errors > 0, "the silence to be noticed", 20)
            assert not seen("unseen")
            tunnel.mend()
            wait_for(lambda: seen("unseen"), "what was missed", 20)
            apiserver.apply(service("after"))
            wait_for(lambda: seen("after"), "the watch again", 20)
        finally:
            reflector.stop()
            api.close()
