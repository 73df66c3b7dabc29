"""Every class of difference between our answers and those of CoreDNS's kubernetes plugin, with its reason.

The differential tests fail on a difference that is in no class; skydns-compat/README.md lists them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.stack.compare import Difference, Report
from tests.stack.questions import TYPES


@dataclass(frozen=True)
class KnownDifference:
    """Differences of these types whose kind of name, effect and name match the regular expressions.

    ``records``, if given, must match a record of the plugin's answer.  ``chosen``: intentional, since the RFC
    says so, or no specification has the name.
    """

    name: str
    reason: str
    kinds: str = ".*"
    types: tuple[str, ...] = TYPES
    what: str = ".*"
    names: str = ".*"
    records: str = ""
    chosen: bool = False

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is in this class."""
        question = difference.question
        return (
            question.rdtype in self.types
            and re.fullmatch(self.kinds, question.kind) is not None
            and re.fullmatch(self.what, difference.what) is not None
            and re.fullmatch(self.names, question.name, re.IGNORECASE) is not None
            and (
                not self.records or any(re.search(self.records, one.data) for one in difference.theirs.answer)
            )
        )


REVERSE = ("PTR",)
SERVICES = "(ClusterIP|headless|ExternalName) service( in capitals)?"
PODS = "pod( in capitals| elsewhere| in another spelling)?|below a pod|any address"
#: Services that the tests name for a property that does not show in a name, with a number.
SUCH = r"([^.]+\.)*{}-\d+\.crowd\..*"

KNOWN: tuple[KnownDifference, ...] = (
    KnownDifference(
        name="names that exist without data",
        kinds="apex|top|(pod )?namespace( in capitals)?|dns-version|ns.dns|no such name above services",
        what="NXDOMAIN became NOERROR",
        names=r"(dns-version|(ns\.)?dns|svc|pod|[^.]+\.(svc|pod))\.[^.]+\.[^.]+\.|[^.]+\.[^.]+\.",
        reason="A name that has records of another type, or names below it, is NODATA for all other types "
        "(RFC 2308, RFC 8020). The plugin says NXDOMAIN for TXT above the Services, for dns. and for "
        "most types at ns.dns. and dns-version.",
        chosen=True,
    ),
    KnownDifference(
        name="a protocol without a port",
        kinds=".* (half a port|too many labels)",
        what="NXDOMAIN became NOERROR",
        names=r"_(tcp|udp|sctp)\.[^.]+\.[^.]+\.svc\..*",
        reason="_tcp.SERVICE is above _http._tcp.SERVICE: an empty non-terminal, NODATA (RFC 8020). With "
        "NXDOMAIN a resolver that minimizes query names would deny the port's SRV too. Finding out "
        "whether the Service has such ports would cost a read, so it is NODATA in any case.",
        chosen=True,
    ),
    KnownDifference(
        name="other types in the reverse zones",
        kinds="(no such )?reverse.*",
        what="NOERROR became NXDOMAIN|NXDOMAIN became NOERROR|lacks (SOA|NS), and has no records",
        reason="Keys answer only PTR; everything else goes to the upstream, which knows the real zone. The "
        "plugin answers SOA and NS itself. Without an upstream it says NXDOMAIN for other types, "
        "which denies the PTR too (RFC 8020); we say NODATA.",
        chosen=True,
    ),
    KnownDifference(
        name="ports without underscores",
        kinds="(ClusterIP|headless) (port without underscores|too many labels)",
        what="NOERROR became NXDOMAIN",
        names=r"_?[^_.]+\._?(tcp|udp|sctp)\..*",
        reason="The plugin accepts http.tcp for _http._tcp. No specification has it.",
        chosen=True,
    ),
    KnownDifference(
        name="the label any",
        names=r"([^.]+\.)*any\..*",
        reason="CoreDNS's etcd plugin treats it as a wildcard, so no such name is served. Services, "
        "Namespaces and machines named any are left out with that reason.",
        chosen=True,
    ),
    KnownDifference(
        name="endpoints whose hostname is any",
        kinds="(ClusterIP|headless) (service|endpoint|port)( in capitals)?|reverse of an endpoint.*",
        what="(lacks|other|more) .*",
        records=r"(^|[ .])any\.",
        reason="They are named after their address, like endpoints without a hostname.",
        chosen=True,
    ),
    KnownDifference(
        name="addresses of endpoints whose hostname is any",
        kinds="(ClusterIP|headless) endpoint( in capitals)?",
        what="NXDOMAIN became NOERROR( with records)?",
        names=r"[0-9a-f]+(-[0-9a-f]*)+\..*",
        reason="The plugin does not have the name that such an endpoint gets here.",
        chosen=True,
    ),
    KnownDifference(
        name="several names for one address",
        kinds="reverse of .*",
        types=REVERSE,
        what="lacks PTR|lacks PTR, adds PTR",
        reason="The etcd plugin reads exactly one PTR per address, so one object gets it. The plugin returns "
        "all.",
    ),
    KnownDifference(
        name="addresses whose name does not exist",
        kinds="reverse of an endpoint( in capitals)?",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
        reason="The plugin also returns PTR for slices of ExternalName Services and of deleted Services, to "
        "names that it then denies. We point only to names that exist.",
    ),
    KnownDifference(
        name="slices that belong to no Service",
        kinds="reverse of an endpoint( in capitals)?|no such reverse",
        types=REVERSE,
        what="Timeout became (NXDOMAIN|NOERROR with records)",  # with records: it is a Service's too
        reason="For an address in a slice without a Service's label the plugin makes a name with an empty "
        "label, which cannot be sent: the client times out.",
    ),
    KnownDifference(
        name="labels before a reverse name",
        kinds="no such reverse",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
        reason="The plugin ignores surplus labels before the 32 of an IPv6 address. Such a name is no "
        "address.",
    ),
    KnownDifference(
        name="other types at an ExternalName Service",
        kinds=SERVICES,
        types=("TXT", "PTR"),
        what="adds (CNAME|PTR), instead of no records",
        reason="The etcd plugin returns a key's one host for TXT (as CNAME) and for PTR too. The kubernetes "
        "plugin says that there are no such records.",
    ),
    KnownDifference(
        name="pods whose address ends in ::",
        kinds=PODS,
        what="NOERROR became NXDOMAIN",
        names=r"([^.]+\.)?[^.]*--\..*",
        reason="The plugin's name for such a pod ends in a hyphen, which a host name must not. Ours ends in "
        "0, as the plugin's names of endpoints do.",
    ),
    KnownDifference(
        name="SRV below a pod",
        kinds="below a pod",
        types=("SRV",),
        what="lacks SRV, adds SRV.*",
        reason="Both ignore labels before a pod's name; we ignore three and more, too. The SRV target then "
        "contains them, since a rewrite cannot tell it from the question's name.",
    ),
    KnownDifference(
        name="SRV at a pod's name that is computed",
        kinds=PODS,
        types=("SRV",),
        what="lacks SRV, and has no records.*",
        reason="With --pods insecure a template computes A and AAAA from the name. The plugin also returns "
        "an SRV with port 0, which adds nothing to them.",
    ),
    KnownDifference(
        name="computed pod names in namespaces that do not exist",
        kinds="pod in no namespace",
        what="NXDOMAIN became NOERROR( with records)?",
        reason="With --pods insecure the address is computed from the name without a read, so the namespace "
        "is not looked up.",
    ),
    KnownDifference(
        name="the port _ where named ports are",
        kinds=".* unnamed port",
        what="(lacks (A|AAAA|SRV)|other (weights|IPv4 addresses)).*|NOERROR became NXDOMAIN",
        reason="For _._tcp the plugin returns every port of the protocol, we return those without a name.",
    ),
    KnownDifference(
        name="endpoints whose address begins with ::",
        kinds="headless (service|endpoint|port)( without underscores| in capitals)?",
        what="NOERROR became NXDOMAIN|lacks SRV, adds SRV.*",
        names=rf"--.*|{SUCH.format('colons')}",
        reason="The plugin's name for such an endpoint begins with a hyphen, which a host name must not. "
        "Ours begins with 0.",
    ),
    KnownDifference(
        name="slices of names",
        kinds="headless (service|endpoint|port)( without underscores| in capitals)?",
        what="NOERROR became NXDOMAIN",
        names=SUCH.format("names"),
        reason="The plugin makes a CNAME of a slice of type FQDN, and several CNAMEs at one name of several "
        "slices. Kubernetes gives the type no meaning. We leave it out, and say so.",
    ),
    KnownDifference(
        name="weights of pods that share an address",
        kinds=PODS,
        types=("SRV",),
        what="other weights",
        reason="Pods on the host's network share its address. The plugin counts each of them in the weight "
        "of the one SRV record, which competes with no other. One key stands for all.",
    ),
)


#: Names of the intentional differences.
CHOSEN = frozenset(one.name for one in KNOWN if one.chosen)


def explained(
    report: Report, title: str, capsys: pytest.CaptureFixture[str], classes: Sequence[KnownDifference] = KNOWN
) -> list[str]:
    """The class of each difference; prints a table of them, and fails if one is in no class."""
    names = [next((one.name for one in classes if one.covers(each)), "") for each in report.found]
    table = report.table(title, names)
    with capsys.disabled():
        print(f"\n{table}")
    assert all(names), table
    return names
