"""`--corefile FILE` with a real CoreDNS, which reloads it for a new domain without a restart."""

import signal
from pathlib import Path

from tests.stack.bridge import call
from tests.stack.coredns import NO_LISTENERS
from tests.stack.harness import SLOW, Binaries, CoreDns, Etcd, free_port, wait_for
from tests.stack.webhook import Webhook, a, cname, webhook_for

#: Seconds from a POST to its answer in DNS: CoreDNS's `reload` interval (2 s), jitter, and the reload.
SERVED_WITHIN = 5.0
CUSTOM = (
    "custom.test:{port} {\n    bind 127.0.0.1\n    hosts {\n        192.0.2.99 www.custom.test\n    }\n}\n"
)


def test_coredns_reloads_a_domain_added_at_run_time(binaries: Binaries, etcd: Etcd, tmp_path: Path) -> None:
    port, custom = free_port(), tmp_path / "custom"
    custom.mkdir()
    own = ["--corefile", str(tmp_path / "coredns.Corefile"), "--corefile-import", f"{custom}/*.server"]
    listen = ["--dns-listen", f"127.0.0.1:{port}", "--upstream", "none", *NO_LISTENERS]
    options = ["--domains", "dev.example.com", "--etcd-server", etcd.url, *own, *listen]
    server = CoreDns(tmp_path, binaries, None, port=port)
    with Webhook(tmp_path, options) as webhook:
        webhook.wait_ready()
        # the import's glob matches nothing yet
        server.start()
        assert webhook.apply(create=[a("lb.dev.example.com", "10.0.0.5")]) == 204
        server.expect("lb.dev.example.com", "A", "10.0.0.5")
        command = ("wait", "--server", f"127.0.0.1:{port}", "--timeout")
        for words, code in (
            (["20s", "lb.dev.example.com"], 0),
            (["20s", "lb.dev.example.com", "--for", "10.0.0.5"], 0),
            (["0", "lb.dev.example.com", "AAAA"], 1),
            (["20s", "none.dev.example.com", "--for", "absent"], 0),
        ):
            assert call(*command, *words).returncode == code, words
        assert webhook.request("POST", "/domains", b"example.com").status_code == 200
        names = [a("lb.example.com", "10.0.0.6"), cname("app.dev.example.com", "lb.example.com")]
        assert webhook.apply(create=names) == 204
        app = "app.dev.example.com"
        server.expect(app, "A", "lb.example.com.", "10.0.0.6", deadline_s=SERVED_WITHIN)
        server.expect(app, "CNAME", "lb.example.com.")
        # imported server blocks are reloaded too
        (custom / "mine.server").write_text(CUSTOM.replace("{port}", str(port)))
        server.expect("www.custom.test", "A", "192.0.2.99")
        # after a restart the file keeps the domain, even while the state cannot be read
        written = server.corefile.read_text()
        webhook.kill()
        etcd.pause()
        webhook.start()
        webhook.wait_readyz("did not answer in time", 20)
        assert "is not written yet" in webhook.readyz()
        assert server.corefile.read_text() == written
        etcd.resume()
        webhook.wait_ready()
        # a damaged file is repaired
        webhook.kill()
        server.corefile.write_text("# torn")
        webhook.start()
        webhook.wait_ready()
        assert server.corefile.read_text() == written
    server.kill()


def test_settings_file_change_restarts_the_webhook_in_place(etcd: Etcd, tmp_path: Path) -> None:
    file, settings = tmp_path / "Corefile", tmp_path / "settings.yaml"
    settings.write_text("corefile: {cache: 7}\n")
    with webhook_for(
        tmp_path, "--etcd-server", etcd.url, "--corefile", str(file), "--config", str(settings)
    ) as webhook:
        webhook.wait_ready()
        pid = webhook.pid
        assert "cache 7 {" in file.read_text()
        settings.write_text("corefile: {cache: never}\n")
        webhook.wait_readyz("is not taken", 20)
        assert webhook.get("/readyz").status_code == 200
        # settings that prevent a start are not applied before the hosts file's folder exists
        folder = tmp_path / "etc"
        settings.write_text(f"corefile: {{cache: 8}}\nwebhook: {{hosts_file: {folder}/hosts}}\n")
        webhook.wait_readyz("there is no folder", 20)
        assert webhook.get("/readyz").status_code == 200
        folder.mkdir()
        (folder / "hosts").touch()
        wait_for(lambda: "cache 8 {" in file.read_text(), "the Corefile of the new settings", 20)
        wait_for(lambda: webhook.get("/readyz").status_code == 200, "ready again", 20)
        assert (webhook.alive, webhook.pid) == (True, pid)
        # SIGTERM during a restart ends it
        settings.write_text("corefile: {cache: 9}\n")
        restarting = "settings changed; restarting"
        wait_for(lambda: webhook.log_text().count(restarting) == 2, "the second restart", 20, not_yet=())
        assert webhook.stop(5 * SLOW) in (0, -signal.SIGTERM), "the latter before its handler is installed"


def test_settings_file_change_is_applied_without_a_corefile(etcd: Etcd, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("ttl: 7\n")
    with webhook_for(tmp_path, "--etcd-server", etcd.url, "--config", str(settings)) as webhook:
        webhook.wait_ready()
        settings.write_text("ttl: 8\n")
        wait_for(lambda: "settings changed; restarting" in webhook.log_text(), "the restart", 20, not_yet=())
        wait_for(webhook.ready, "ready again", 20)
