"""The death of any thread of `run` or `webhook` is reported."""

import contextlib
import time
from pathlib import Path

import pytest
import requests

from tests.stack.bridge import config_option
from tests.stack.faults import args
from tests.stack.harness import ApiServer, Bridge, Etcd, wait_for
from tests.stack.objects import service
from tests.stack.process import LOOPBACK, free_port

MAIN = "MainThread"

THREADS = {
    "run": {
        MAIN,
        "corefile",
        "election",
        "etcd-follower",
        "etcd-watch",
        "event-recorder",
        "page",
        "probes",
        "reflector-endpointslices",
        "reflector-namespaces",
        "reflector-services",
        "settings",
        "webhook",
    },
    "webhook": {
        MAIN,
        "corefile",
        "etcd-follower",
        "etcd-watch",
        "probes",
        "settings",
        "webhook",
        "webhook-repair",
    },
}

#: `stop` and `stop-on-signal` do nothing but wait for the stop, `log-repeats` exists only while repeats of
#: a line are to be reported. Of libraries' threads, gRPC's are reported like ours but sleep in C, and
#: waitress's workers survive any exception of a request.
NOT_KILLED = ("stop", "log-repeats", "Thread-", "waitress-")

#: Seconds after which a surviving thread is killed again.
RETRY_S = 2.0


def kill_thread(folder: Path, thread: str) -> None:
    (folder / "kill.new").write_text(thread)
    (folder / "kill.new").rename(folder / "kill")


@pytest.mark.parametrize("command", ["run", "webhook"])
def test_thread_deaths_are_reported(command: str, apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    options = ["--etcd-server", etcd.url, "--domains", "dtk.io", "--resync-period", "1"]
    options += config_option(tmp_path, {})
    port, page = free_port(), free_port()
    options += ["--port", str(port), "--corefile", str(tmp_path / "Corefile")]
    if command == "run":
        options += [*args(apiserver.kubeconfig(), etcd), "--webhook", "--leader-elect", "--events"]
        options += ["--listen-page", f":{page}"]
    program = ("tests.stack.thread_killer", str(tmp_path))

    def threads() -> set[str]:
        return set((tmp_path / "threads").read_text().splitlines())

    with Bridge(tmp_path, options, command=command, program=program) as process:
        process.wait_ready()
        wait_for(lambda: threads() >= THREADS[command], "all threads to run", 10)
        doomed = sorted(name for name in threads() - {MAIN, "probes"} if not name.startswith(NOT_KILLED))
        doomed.sort(key="etcd-follower".__eq__)  # the follower's death ends the watch too
        for number, thread in enumerate(doomed):
            kill_thread(tmp_path, thread)
            asked = [time.monotonic()]

            def reported(thread: str = thread, number: int = number, asked: list[float] = asked) -> bool:
                # wake threads that wait for events or requests
                if command == "run":
                    apiserver.apply(service(f"wake{number}"))
                for address in (f"{port}/records", f"{page}/"):
                    with contextlib.suppress(requests.RequestException):
                        requests.get(f"http://{LOOPBACK}:{address}", timeout=0.5)
                if thread in threads() and time.monotonic() - asked[-1] > RETRY_S:
                    # waitress catches exceptions while it reads a connection
                    kill_thread(tmp_path, thread)
                    asked.append(time.monotonic())
                return f"thread {thread} died" in process.readyz()

            wait_for(reported, f"the death of {thread} to be reported", 10, process)
            assert process.get("/livez").status_code == 503
            assert process.get("/readyz").status_code == 503
            wait_for(lambda: process.metric("kube2etcd_thread_deaths_total") > 0, "a death to be counted", 5)
        kill_thread(tmp_path, "probes")
        log = process.log
        wait_for(lambda: "thread probes died" in log.read_text(), "the death of probes to be reported", 10)
        kill_thread(tmp_path, MAIN)
        wait_for(lambda: not process.alive, "the process to end with its main thread", 20)
        assert process.exit_code != 0
