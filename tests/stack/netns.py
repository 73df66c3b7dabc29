"""A machine of its own for resolvers: a network namespace with a loopback device and chosen addresses.

Whatever is started in it sees only itself, and the files of ``/etc`` that the test gives it. Needs the right
to make network and mount namespaces: root's, or that of user namespaces where the system allows them.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stack.process import NotInTimeError, Process, wait_for

#: What decides beside resolv.conf how a name is resolved; the system's own may ask somebody else.
NSSWITCH = "hosts: files dns\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"

RIGHTS = (
    "this test makes a network and a mount namespace, which is refused here:"
    " run it as root, or where user namespaces are allowed"
)


class NetworkNamespace:
    """Namespaces that live as long as the process that holds them."""

    def __init__(self, directory: Path, addresses: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._held = directory / "namespace-is-there"
        (directory / "nsswitch.conf").write_text(NSSWITCH)
        (directory / "hosts").write_text(HOSTS)
        script = ["set -e", "ip link set lo up"]
        # nodad: an IPv6 address is of use at once, nobody else could have it here
        script += [
            f"ip address add {address} dev lo" + (" nodad" if ":" in address else "") for address in addresses
        ]
        script += [
            f"mount --bind {shlex.quote(str(directory / name))} /etc/{name}"
            for name in ("nsswitch.conf", "hosts")
        ]
        # a running name service cache would answer in the resolver's place
        script += ["if [ -d /run/nscd ]; then mount -t tmpfs none /run/nscd; fi"]
        script += [f"touch {shlex.quote(str(self._held))}", "exec sleep infinity"]
        command = ["unshare", *self._user, "--net", "--mount", "--", "sh", "-c", "\n".join(script)]
        self.process = Process("netns", command, directory)

    def start(self) -> None:
        """Make it; an error that says what is missing where it may not be made."""
        self.process.start()
        try:
            wait_for(self._held.exists, "the namespace", 20, self.process)
        except (NotInTimeError, FileNotFoundError) as error:
            raise AssertionError(f"{RIGHTS}\n{error}") from None

    def kill(self) -> None:
        """Let go of it; what still runs in it keeps it until it ends."""
        self.process.kill()

    def inside(self, command: Sequence[str], files: Mapping[Path, Path] | None = None) -> list[str]:
        """The command as it is started in there; ``files``: what it sees in the place of which file."""
        entered = ["nsenter", f"--target={self.process.pid}", "--net", "--mount"]
        if self._user:
            entered += ["--user", "--preserve-credentials"]
        if files:
            mounts = [
                f"mount --bind {shlex.quote(str(given))} {shlex.quote(str(place))} &&"
                for place, given in files.items()
            ]
            entered += ["unshare", "--mount", "--", "sh", "-c", " ".join([*mounts, 'exec "$@"']), "sh"]
        return [*entered, *command]
