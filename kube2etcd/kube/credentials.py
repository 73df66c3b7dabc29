"""API server and credentials from a kubeconfig, a service account or an exec plugin.

The package ``kubernetes`` is used for these alone.  The environment's proxy and CA variables are ignored.
"""

from __future__ import annotations

import dataclasses
import os
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from kube2etcd.errors import ApiUnavailable, SettingsError
from kube2etcd.kube import exec_plugin, kubeconfig
from kube2etcd.kube.failures import one_line

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's CA."""


@dataclass(frozen=True)
class ClusterSettings:
    """The API server and the identity to use."""

    kubeconfig: Path | None = None
    """Kubeconfig file; relative paths inside are relative to it."""
    context: str | None = None
    """A context of the kubeconfig; ``None`` takes the current one."""
    master_url: str | None = None
    """Alone: this server, anonymously.  With a kubeconfig: replaces its server only."""


@dataclass(frozen=True)
class Access:
    """Connection parameters read from a kubeconfig or a service account."""

    host: str
    authorization: str = field(default="", repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    files: tuple[Path, ...] = ()
    """Files whose change requires a reload."""
    refresh: Callable[[], str] | None = None
    """Returns a fresh authorization where it expires."""

    @property
    def known(self) -> bool:
        """Whether requests carry credentials."""
        return bool(self.authorization or self.cert_file)

    def context(self) -> ssl.SSLContext | None:
        """TLS settings; none for plain HTTP."""
        if not self.host.startswith("https"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            # CAs made by many cluster installers lack an extension that newer Pythons insist on.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                # An encrypted key must fail, not ask at a terminal that nobody watches.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable"
            names = " or ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise SettingsError(f"a certificate or key file cannot be used ({reason}): {names}") from error
        return context


def read_access(settings: ClusterSettings) -> Access:
    """Find and read the credentials.

    :raises SettingsError: there are none, or they cannot be read.
    """
    in_cluster = (SERVICE_ACCOUNT / "token").is_file() and (SERVICE_ACCOUNT / "ca.crt").is_file()
    if settings.kubeconfig is not None:
        access = _read_kubeconfig(str(settings.kubeconfig), settings.context, "--kubeconfig")
    elif settings.context is None and settings.master_url is not None:
        return Access(host=settings.master_url.rstrip("/"))
    elif settings.context is None and in_cluster:
        return _read_service_account()
    else:
        named = os.environ.get("KUBECONFIG")
        access = _read_kubeconfig(
            named or "~/.kube/config", settings.context, "KUBECONFIG" if named else "the default"
        )
    if settings.master_url is not None:
        access = dataclasses.replace(access, host=settings.master_url.rstrip("/"))
    return access


def _read_service_account() -> Access:
    # Imported here and below only: the package costs a quarter of a second and 14 MB.
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    load: Any = InClusterConfigLoader
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    loaded = _blank()
    try:
        load(str(token), str(ca), try_refresh_token=False).load_and_set(loaded)
    except ConfigException as error:
        raise SettingsError(
            f"the pod's service account cannot be used: {error} Or name the cluster with --kubeconfig."
        ) from error
    except OSError as error:
        raise SettingsError(f"the pod's service account cannot be read: {error.strerror}") from error
    return Access(host=loaded.host, authorization=_authorization(loaded), ca_file=str(ca), files=(token, ca))


def _read_kubeconfig(names: str, context: str | None, source: str) -> Access:
    paths = tuple(Path(os.path.expanduser(name)) for name in names.split(os.pathsep) if name)
    if not any(map(_is_file, paths)):
        for path in paths:
            if (text := kubeconfig.no_file(path)) is not None:
                raise SettingsError(text)
        raise SettingsError(
            f"no kubeconfig at {names} ({source}), and this is no pod: "
            "name a cluster with --kubeconfig or --kube-master-url"
        )
    from kubernetes.config import ConfigException, load_kube_config

    exec_plugin.limit()
    load: Any = load_kube_config
    loaded = _blank()
    try:
        load(config_file=names, context=context, client_configuration=loaded, persist_config=False)
    except OSError as error:
        raise SettingsError(
            f"the kubeconfig {names} cannot be read: {error.strerror}: {error.filename}"
        ) from error
    except (
        ConfigException,
        yaml.YAMLError,
        TypeError,
        AttributeError,
        KeyError,
        ValueError,
        RecursionError,
    ) as error:
        reason = type(error).__name__
        if isinstance(error, ConfigException):
            # It may quote an entry, and the entry may hold a token.
            reason = one_line(re.sub(r"\{.*\}", "…", str(error), flags=re.DOTALL))
        raise SettingsError(
            kubeconfig.fault(paths, context) or f"the kubeconfig {names} cannot be used: {reason}"
        ) from None
    if not loaded.host:
        raise SettingsError(
            f"the kubeconfig {names} names no server for this context; write server: URL under its cluster"
        )

    lock = threading.Lock()

    def refresh() -> str:
        with lock:
            hook = loaded.refresh_api_key_hook
            try:
                hook(loaded)
            except (ConfigException, OSError) as error:
                raise ApiUnavailable(
                    f"the credentials of the kubeconfig {names} cannot be renewed"
                ) from error
            return _authorization(loaded)

    return Access(
        host=loaded.host,
        authorization=_authorization(loaded),
        ca_file=loaded.ssl_ca_cert,
        cert_file=loaded.cert_file,
        key_file=loaded.key_file,
        verify=loaded.verify_ssl,
        server_name=loaded.tls_server_name,
        proxy=loaded.proxy,
        files=tuple(
            path
            for path in (
                *paths,
                *(Path(f) for f in (loaded.ssl_ca_cert, loaded.cert_file, loaded.key_file) if f),
            )
        ),
        refresh=refresh if loaded.refresh_api_key_hook is not None else None,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        # A folder above it may not be entered, which is not the same as no file there.
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror}") from error


def _blank() -> SimpleNamespace:
    """What the loaders fill.  Not their ``Configuration``: that one takes proxies from the environment."""
    return SimpleNamespace(
        host="",
        api_key={},
        ssl_ca_cert=None,
        cert_file=None,
        key_file=None,
        verify_ssl=True,
        tls_server_name=None,
        proxy=None,
        refresh_api_key_hook=None,
    )


def _authorization(loaded: SimpleNamespace) -> str:
    # One entry, whose key has changed between releases.
    value = next(iter(loaded.api_key.values()), "")
    scheme, _, secret = value.strip().partition(" ")
    # Two loaders, two spellings.
    return f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {secret.strip()}" if secret else ""


def fingerprint(files: tuple[Path, ...]) -> tuple[object, ...]:
    """Changes whenever one of the files does; a mounted secret changes its inode."""

    def one(path: Path) -> object:
        try:
            stat = path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    return tuple(one(path) for path in files)
