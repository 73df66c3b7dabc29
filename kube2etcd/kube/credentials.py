"""API server and credentials from a kubeconfig, a service account or an exec plugin.

The package ``kubernetes`` is used only here.  The environment's proxy and CA variables are ignored.
Messages quote no more of a user's entry than its name.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from kube2etcd import atomic
from kube2etcd.errors import ApiUnavailable, SettingsError, one_line
from kube2etcd.settings import Cluster

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Folder of a pod's token and the cluster's CA."""

EXEC_TIMEOUT: Final = 30.0
"""Seconds for one run of an exec plugin; those of cloud providers take one to five."""

EXEC_RETRY: Final = 10.0
"""Seconds after a timeout before the plugin is run again, so that waiting threads do not wait twice."""

_SHOWN: Final = 8
"""Contexts named in a message; a kubeconfig may hold hundreds."""


class Access:
    """API server and credentials as read from a kubeconfig or a service account.

    Most attributes are those of the package's ``Configuration``, whose place this takes in its loaders: that
    one takes proxies from the environment.
    """

    def __init__(self, host: str = "", *files: Path) -> None:
        self.host = host
        self.api_key: dict[str, str] = {}
        self.ssl_ca_cert: str | None = None
        self.cert_file: str | None = None
        self.key_file: str | None = None
        self.verify_ssl = True
        self.tls_server_name: str | None = None
        self.proxy: str | None = None
        self.refresh_api_key_hook: Callable[[Access], None] | None = None
        self.files = files
        """Files whose change requires a reload."""
        self.kubeconfig = ""
        """Its names, if there is one."""
        self.override: str | None = None
        """The server to use instead of ``host``, which a renewal sets again."""
        self._lock = threading.Lock()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return (self.override or self.host).rstrip("/")

    @property
    def authorization(self) -> str:
        """The header's value; empty for none."""
        # One entry, whose key has changed between releases.
        value = next(iter(self.api_key.values()), "")
        scheme, _, secret = value.strip().partition(" ")
        # The two loaders spell it differently.
        return f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {secret.strip()}" if secret else ""

    @property
    def known(self) -> bool:
        """Whether requests carry credentials."""
        return bool(self.authorization or self.cert_file)

    def renewed(self) -> str:
        """The authorization, renewed if it has expired; ApiUnavailable if that fails."""
        if self.refresh_api_key_hook is None:
            return self.authorization
        from kubernetes.config import ConfigException

        with self._lock:
            try:
                self.refresh_api_key_hook(self)
            except (ConfigException, OSError) as error:
                raise ApiUnavailable(
                    f"the credentials of the kubeconfig {self.kubeconfig} cannot be renewed"
                ) from error
            return self.authorization

    def context(self) -> ssl.SSLContext | None:
        """TLS settings; none for plain HTTP."""
        if not self.server.startswith("https"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_cert)
            # CAs made by many cluster installers lack an extension that newer Pythons require.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not self.verify_ssl:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                # An encrypted key must fail, not prompt on a terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable"
            names = " or ".join(filter(None, (self.ssl_ca_cert, self.cert_file, self.key_file)))
            raise SettingsError(f"a certificate or key file cannot be used ({reason}): {names}") from error
        return context


def read_access(settings: Cluster) -> Access:
    """Find and read the credentials; raises `SettingsError`."""
    in_cluster = (SERVICE_ACCOUNT / "token").is_file() and (SERVICE_ACCOUNT / "ca.crt").is_file()
    if settings.kubeconfig is not None:
        access = _read_kubeconfig(settings.kubeconfig, settings.context, "--kubeconfig")
    elif settings.context is None and settings.kube_master_url is not None:
        access = Access()
    elif settings.context is None and in_cluster:
        access = _read_service_account()
    else:
        named = os.environ.get("KUBECONFIG")
        access = _read_kubeconfig(
            named or "~/.kube/config", settings.context, "KUBECONFIG" if named else "the default"
        )
    access.override = settings.kube_master_url
    return access


def _read_service_account() -> Access:
    # Imported only here and below: the package costs a quarter of a second and 14 MB.
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    load: Any = InClusterConfigLoader
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    access = Access("", token, ca)
    try:
        load(str(token), str(ca), try_refresh_token=False).load_and_set(access)
    except ConfigException as error:
        raise SettingsError(
            f"the pod's service account cannot be used: {error} Or name the cluster with --kubeconfig."
        ) from error
    except OSError as error:
        raise SettingsError(f"the pod's service account cannot be read: {error.strerror}") from error
    return access


def _read_kubeconfig(names: str, context: str | None, source: str) -> Access:
    paths = tuple(Path(os.path.expanduser(name)) for name in names.split(os.pathsep) if name)
    if not any(map(_is_file, paths)):
        for path in paths:
            _refuse_non_file(path)
        here = f"{SERVICE_ACCOUNT} lacks token or ca.crt" if SERVICE_ACCOUNT.is_dir() else "this is no pod"
        raise SettingsError(
            f"no kubeconfig at {names} ({source}), and {here}: "
            "name a cluster with --kubeconfig or --kube-master-url"
        )
    from kubernetes.config import ConfigException, exec_provider, load_kube_config

    load: Any = load_kube_config
    plugins: Any = exec_provider
    plugins.subprocess = SimpleNamespace(Popen=_run_plugin, PIPE=subprocess.PIPE)
    access = Access()
    try:
        load(config_file=names, context=context, client_configuration=access, persist_config=False)
    except OSError as error:
        raise SettingsError(
            f"the kubeconfig {names} cannot be read: {error.strerror}: {error.filename}"
        ) from error
    except Exception as error:
        _check_kubeconfig(paths, context)
        reason = type(error).__name__
        if isinstance(error, ConfigException):
            # It may quote an entry, and the entry may hold a token.
            reason = one_line(re.sub(r"\{.*\}", "…", str(error), flags=re.DOTALL))
        elif isinstance(error, binascii.Error):
            reason = "certificate-authority-data, client-certificate-data or client-key-data is not base64"
        raise SettingsError(f"the kubeconfig {names} cannot be used: {reason}") from None
    if not access.host:
        raise SettingsError(
            f"the kubeconfig {names} names no server for this context; write server: URL under its cluster"
        )
    if not isinstance(access.proxy, str | None):
        raise SettingsError(f"proxy-url of the kubeconfig {names} is not text; write http://HOST:PORT")
    certificates = (access.ssl_ca_cert, access.cert_file, access.key_file)
    access.kubeconfig = names
    access.files = (*paths, *map(Path, filter(None, certificates)))
    return access


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        # An inaccessible parent folder is not a missing file.
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror}") from error


def fingerprint(files: tuple[Path, ...]) -> tuple[object, ...]:
    """A value that changes whenever one of the files does; a mounted secret changes its inode."""
    return tuple(map(atomic.version, files))


# -- why a kubeconfig is unusable; the package's own messages may quote a token


class _Context(msgspec.Struct):
    cluster: str | None = None


class _Entry(msgspec.Struct):
    """An entry of any list."""

    name: str
    cluster: dict[str, Any] | None = None
    user: dict[str, Any] | None = None
    context: _Context | None = None


class _Config(msgspec.Struct, rename="kebab"):
    clusters: list[_Entry] | None = None
    users: list[_Entry] | None = None
    contexts: list[_Entry] | None = None
    current_context: str | None = None


def _check_kubeconfig(paths: Sequence[Path], asked: str | None) -> None:
    """Find out why the merged files are unusable; ``asked`` is the context, None the current one.

    :raises SettingsError: a reason was found.
    """
    configs = [_read_config(path) for path in paths]
    clusters = {one.name for config in configs for one in config.clusters or ()}
    contexts = {one.name: one.context for config in configs for one in config.contexts or ()}
    current = next((one.current_context for one in reversed(configs) if one.current_context is not None), "")
    kubeconfig = f"the kubeconfig {':'.join(map(str, paths))}"
    if not contexts:
        raise SettingsError(f"{kubeconfig} has no contexts, so it names no cluster; name another file")
    more = f" and {len(contexts) - _SHOWN} more" if len(contexts) > _SHOWN else ""
    choice = f"with --context: {', '.join([*contexts][:_SHOWN])}{more}"
    wanted = current if asked is None else asked
    cluster = (contexts.get(wanted) or _Context()).cluster
    why = ""
    if asked is None and not current:
        why = " has no current context"
    elif wanted not in contexts:
        mine = f"'s current context {wanted!r} is not in it"
        why = mine if asked is None else f" has no context {wanted!r}"
    elif cluster not in clusters:
        why = f" has no cluster {cluster!r}, which its context {wanted!r} names"
    if why:
        raise SettingsError(f"{kubeconfig}{why}; name one {choice}")


def _read_config(path: Path) -> _Config:
    import yaml

    try:
        documents = [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one is not None]
        if len(documents) == 1:
            return msgspec.convert(documents[0], _Config)
        why = f"holds {len(documents)} documents; leave one"
        if not documents:
            why = "is empty; write one there, or name another file"
    except OSError:
        return _Config()
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 (byte {error.start}); is it the right file?"
    except yaml.YAMLError as error:
        # The parser's own text may quote the line, and the line may hold a token.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        why = f"is not YAML{where}; correct it, or name another file"
    except msgspec.ValidationError as error:
        why = f"is malformed: {error}"
    except ValueError:
        # An escape of YAML that is no character, alone or at all.
        why = "holds text that is not Unicode; correct it, or name another file"
    except RecursionError:
        why = "is nested too deeply; is it the right file?"
    raise SettingsError(f"the kubeconfig {path} {why}") from None


def _refuse_non_file(path: Path) -> None:
    """Raise `SettingsError` if the path is something other than a file."""
    if path.is_dir():
        inside = path / "config"
        hint = f": did you mean {inside}?" if inside.is_file() else "; name the file in it"
        raise SettingsError(f"the kubeconfig {path} is a folder{hint}")
    if path.exists():
        raise SettingsError(
            f"the kubeconfig {path} is not a regular file, so it cannot be read again; write it to one"
        )


# -- exec plugins


_blocked_until: Final[dict[tuple[str, ...], float]] = {}
"""When a plugin that timed out may be run again (`time.monotonic`), by its command line."""


def _run_plugin(args: list[str], **options: Any) -> SimpleNamespace:
    """Takes the place of ``Popen`` in the package, which knows no timeout, and runs the plugin to its end.

    Every reflector asks for credentials before each request, under a lock, so a hanging plugin would block
    them all (guarantee G2).

    :raises TimeoutError: it took longer than `EXEC_TIMEOUT`, now or within the last `EXEC_RETRY`.
    """
    if time.monotonic() >= _blocked_until.get(tuple(args), 0.0):
        # It must not prompt, and its children must not outlive it.
        options |= {"shell": False, "stdin": subprocess.DEVNULL, "start_new_session": True}
        with subprocess.Popen(args, **options) as process:
            try:
                output = process.communicate(timeout=EXEC_TIMEOUT)
                return SimpleNamespace(communicate=lambda: output, wait=lambda: process.returncode)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                _blocked_until[tuple(args)] = time.monotonic() + EXEC_RETRY
    raise TimeoutError(
        f"exec plugin {args[0]}: no credentials within {EXEC_TIMEOUT:g} s; it is ended and run again"
    )
