"""Runs a manifest's pod as processes, like the kubelet: startup order, probes, volumes, restarts.

ConfigMaps, Secrets and tokens come from the API server, containers from `tests.stack.container`, the network
from `tests.stack.node`. A container that exits restarts at once, without backoff.
"""

import base64
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.stack.container import Image, Mount, chown_to_group, command
from tests.stack.kubeclient import KubeClient, KubeError, Object
from tests.stack.node import Node
from tests.stack.process import Process, http, wait_for

#: Seconds between checks of a process.
TICK = 0.05


def url_host(address: str) -> str:
    """The address as in a URL."""
    return f"[{address}]" if ":" in address else address


@dataclass
class Probe:
    """A probe of a container and its recent results."""

    spec: Object
    check: Callable[[Object], bool]
    speedup: float
    next_at: float = 0.0
    failures: int = 0
    attempts: int = 0

    def reset(self, now: float) -> None:
        self.next_at, self.failures = now + self.spec.get("initialDelaySeconds", 0) / self.speedup, 0

    def result(self, now: float) -> bool | None:
        """True on success, False at the failure threshold, None if undecided or not due."""
        if now < self.next_at:
            return None
        self.next_at = now + self.spec.get("periodSeconds", 10) / self.speedup
        well = self.check(self.spec)
        self.attempts += 1
        self.failures = 0 if well else self.failures + 1
        if well:
            return True
        return False if self.failures >= self.spec.get("failureThreshold", 3) else None


@dataclass
class Container:
    name: str
    process: Process
    probes: dict[str, Probe]
    sidecar: bool
    init: bool
    started: bool = False
    ready: bool = False
    finished: bool = False
    starts: int = 0

    @property
    def restarts(self) -> int:
        return max(self.starts - 1, 0)


class Pod:
    """One pod of a Deployment; ``changed`` is called when its readiness may have changed."""

    def __init__(
        self,
        name: str,
        template: Object,
        namespace: str,
        node: Node,
        api: KubeClient,
        api_port: int,
        images: Mapping[str, Image],
        *,
        speedup: float = 1.0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.namespace, self.spec = name, namespace, template["spec"]
        self.labels: Mapping[str, str] = template["metadata"]["labels"]
        self.events: list[str] = []
        self._api, self._images, self._changed = api, images, changed
        self.directory = node.directory / name
        self.directory.mkdir()
        self.network = node.add_pod(name)
        for sysctl in self.spec.get("securityContext", {}).get("sysctls", ()):
            self.network.set(sysctl["name"], sysctl["value"])
        api_address = node.family.api
        self._kube_environment = {
            "HOSTNAME": name,
            "KUBERNETES_SERVICE_HOST": api_address,
            "KUBERNETES_SERVICE_PORT": str(api_port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(api_port),
            "KUBERNETES_PORT": f"tcp://{url_host(api_address)}:{api_port}",
        }
        self._etc = list(self._etc_files())
        self._lock, self._changing = threading.Lock(), threading.Lock()
        self._served = False
        self._stop = threading.Event()
        self._gone = threading.Event()
        self._threads: list[threading.Thread] = []
        self.containers = {
            one["name"]: self._container(one, init, speedup)
            for init, group in ((True, "initContainers"), (False, "containers"))
            for one in self.spec.get(group, ())
        }

    def _container(self, spec: Object, init: bool, speedup: float) -> Container:
        image = self._images[spec["image"].rpartition("/")[2].partition(":")[0]]
        line = command(
            spec,
            self.spec,
            image,
            self.network.path,
            [*self._mounts(spec), *self._etc],
            {**self._kube_environment, **dict(self._environment(spec))},
            self.directory / f"{spec['name']}-root",
        )
        process = Process(f"{self.name}-{spec['name']}", line, self.directory)
        ports = {port["name"]: port["containerPort"] for port in spec.get("ports", ()) if "name" in port}
        ask = functools.partial(self._http, ports)
        kinds = ("startupProbe", "readinessProbe", "livenessProbe")
        probes = {kind: Probe(spec[kind], ask, speedup) for kind in kinds if kind in spec}
        return Container(spec["name"], process, probes, spec.get("restartPolicy") == "Always", init)

    def _environment(self, spec: Object) -> Iterator[tuple[str, str]]:
        own = {"status.podIP": self.network.address, "metadata.name": self.name}
        own["metadata.namespace"] = self.namespace
        for each in spec.get("env", ()):
            source = each.get("valueFrom")
            yield each["name"], each.get("value", "") if not source else own[source["fieldRef"]["fieldPath"]]

    def _mounts(self, spec: Object) -> Iterator[Mount]:
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        for mount in spec.get("volumeMounts", ()):
            source = self.directory / f"volume-{mount['name']}"
            if not source.exists():
                source.mkdir()
                self._fill(source, volumes[mount["name"]])
            yield Mount(source, mount["mountPath"], mount.get("readOnly", False))

    def _fill(self, directory: Path, volume: Object) -> None:
        """Fill a volume: emptyDir, ConfigMap, Secret or projected."""
        group = self.spec["securityContext"]["fsGroup"]
        if "emptyDir" in volume:
            chown_to_group(directory, group)
        elif "configMap" in volume:
            self._write(directory, self._config_map(**volume["configMap"]))
        elif "secret" in volume:
            found = self._api.get("v1", "Secret", volume["secret"]["secretName"], self.namespace)
            texts = {name: base64.b64decode(data).decode() for name, data in found["data"].items()}
            self._write(directory, texts, group)
        else:
            for source in volume["projected"]["sources"]:
                self._write(directory, dict(self._projected(source)), group)

    def _projected(self, source: Object) -> Iterator[tuple[str, str]]:
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            yield wanted["path"], self._token(wanted.get("expirationSeconds", 3600))
        for item in source.get("configMap", {}).get("items", ()):
            yield item["path"], self._config_map(source["configMap"]["name"])[item["key"]]
        for item in source.get("downwardAPI", {}).get("items", ()):
            assert item["fieldRef"]["fieldPath"] == "metadata.namespace"
            yield item["path"], self.namespace

    def _config_map(self, name: str, optional: bool = False) -> dict[str, str]:
        try:
            data: dict[str, str] = self._api.get("v1", "ConfigMap", name, self.namespace)["data"]
        except KubeError as error:
            if optional and error.status == 404:
                return {}
            raise
        return data

    def sync_config_maps(self) -> None:
        """Update mounted ConfigMaps, as the kubelet does about every minute."""
        for volume in self.spec.get("volumes", ()):
            directory = self.directory / f"volume-{volume['name']}"
            if "configMap" in volume and directory.exists():
                fresh = self.directory / f"fresh-{volume['name']}"
                fresh.mkdir()
                self._write(fresh, self._config_map(**volume["configMap"]))
                for file in fresh.iterdir():
                    file.replace(directory / file.name)
                fresh.rmdir()

    @staticmethod
    def _write(directory: Path, texts: Mapping[str, str], group: int | None = None) -> None:
        for name, text in texts.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o644 if group is None else 0o440)
            os.chown(directory / name, -1, -1 if group is None else group)

    def _token(self, seconds: int) -> str:
        """A token of the pod's ServiceAccount, by a TokenRequest."""
        account = self.spec["serviceAccountName"]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        answer = self._api.request("POST", path, body | {"spec": {"expirationSeconds": seconds}})
        return str(answer.json()["status"]["token"])

    def _etc_files(self) -> Iterator[Mount]:
        assert self.spec["dnsPolicy"] == "Default", "the pod is the cluster's DNS itself"
        lines, resolver = ["127.0.0.1 localhost", "::1 localhost"], self.network.family.resolver
        lines += [f"{one['ip']} {' '.join(one['hostnames'])}" for one in self.spec.get("hostAliases", ())]
        for name, text in (("hosts", "\n".join(lines) + "\n"), ("resolv.conf", f"nameserver {resolver}\n")):
            (self.directory / name).write_text(text)
            yield Mount(self.directory / name, f"/etc/{name}", read_only=False)

    def _http(self, ports: Mapping[str, int], probe: Object) -> bool:
        """An HTTP probe from the node to the pod's address."""
        get, address = probe["httpGet"], url_host(self.network.address)
        url = f"http://{address}:{ports.get(get['port'], get['port'])}{get['path']}"
        try:
            answer = http("GET", url, timeout=probe.get("timeoutSeconds", 1), allow_redirects=False)
        except OSError:
            return False
        return answer.status_code < 400

    @property
    def ready(self) -> bool:
        return all(one.finished or one.ready for one in self.containers.values())

    def start(self) -> None:
        """Start the containers in order."""
        for one in self.containers.values():
            thread = threading.Thread(target=self._supervise, args=(one,), name=one.process.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _readiness_changed(self) -> None:
        """Report the change, so that routes are updated before `wait_ready` returns."""
        with self._changing:
            self._changed()
            self._served = self.ready

    def wait_ready(self, deadline_s: float = 90.0) -> None:
        def served() -> bool:
            assert self.ready, self.state()
            return self._served

        wait_for(served, f"pod {self.name} to be ready", deadline_s)

    def restarts(self) -> dict[str, int]:
        return {one.name: one.restarts for one in self.containers.values()}

    def state(self) -> str:
        """Each container's state and last log lines."""
        return "\n".join(
            f"{one.name}: started {one.started}, ready {one.ready}, restarts {one.restarts}\n"
            f"{one.process.log_tail()}"
            for one in self.containers.values()
        )

    def stop(self) -> None:
        """Stop the containers, then the sidecars in reverse order, as the kubelet does."""
        with self._lock:
            self._stop.set()
        order = [one for one in self.containers.values() if not one.sidecar]
        order += [one for one in reversed(self.containers.values()) if one.sidecar]
        for one in order:
            one.process.stop(self.spec.get("terminationGracePeriodSeconds", 30))
        self._close()

    def kill(self) -> None:
        """Kill all containers, as when the node fails."""
        with self._lock:
            self._stop.set()
        for one in self.containers.values():
            one.process.kill()
        self._close()

    def _close(self) -> None:
        self._gone.set()
        for thread in self._threads:
            thread.join()
        self.network.kill()

    def _may_start(self, one: Container) -> bool:
        """Whether all sidecars before it have started and all init containers have finished."""
        for other in self.containers.values():
            if other is one:
                return True
            if other.init and not (other.started if other.sidecar else other.finished):
                return False
        return True

    def _supervise(self, one: Container) -> None:
        """Run a container until the pod ends. This thread must outlive the process, which dies with it."""
        while not self._may_start(one):
            if self._stop.wait(TICK):
                return
        while not one.finished and self._started(one):
            self._run_probes(one)
            one.ready = one.started = False
            one.finished = one.init and not one.sidecar and one.process.exit_code == 0
            if not self._stop.is_set():
                self._readiness_changed()
        self._gone.wait()

    def _started(self, one: Container) -> bool:
        with self._lock:
            if self._stop.is_set():
                return False
            one.process.start()
            one.starts += 1
            self.events.append(f"{one.name} started")
            return True

    def _run_probes(self, one: Container) -> None:
        """Run the probes until the process exits or a probe stops it."""
        for probe in one.probes.values():
            probe.reset(time.monotonic())
        while not self._stop.wait(TICK) and one.process.alive:
            now = time.monotonic()
            if not one.started:
                startup = one.probes.get("startupProbe")
                verdict = startup.result(now) if startup else True
                if verdict:
                    one.started = True
                    one.ready = "readinessProbe" not in one.probes
                    self.events.append(f"{one.name} has come up")
                    self._readiness_changed()
                elif verdict is False:
                    self._stop_container(one, "startup")
                continue
            readiness = one.probes.get("readinessProbe")
            verdict = readiness.result(now) if readiness else None
            if verdict is not None and verdict != one.ready:
                one.ready = verdict
                self._readiness_changed()
            liveness = one.probes.get("livenessProbe")
            if liveness and liveness.result(now) is False:
                self._stop_container(one, "liveness")

    def _stop_container(self, one: Container, probe: str) -> None:
        self.events.append(f"{one.name} stopped by its {probe} probe")
        one.process.stop(self.spec.get("terminationGracePeriodSeconds", 30))
