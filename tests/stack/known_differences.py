"""Every known class of difference from the answers of CoreDNS's kubernetes plugin.

The differential tests fail on any other difference; skydns-compat/README.md has the reasons.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.stack.compare import Difference, Report
from tests.stack.questions import TYPES


@dataclass(frozen=True)
class KnownDifference:
    """Differences of these types whose kind of name, effect and name match these regular expressions.

    ``records``, if given, must match a record of the plugin's answer. ``intentional``: an RFC says
    so, or no specification has the name.
    """

    name: str
    kinds: str = ".*"
    types: tuple[str, ...] = TYPES
    what: str = ".*"
    names: str = ".*"
    records: str = ""
    intentional: bool = False

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
SERVICE_KINDS = "(ClusterIP|headless|ExternalName) service( in capitals)?"
POD_KINDS = "pod( in capitals| elsewhere| in another spelling)?|below a pod|any address"
#: Services named for a property of their slices, with a number.
NUMBERED_SERVICE = r"([^.]+\.)*{}-\d+\.crowd\..*"

KNOWN: tuple[KnownDifference, ...] = (
    KnownDifference(
        name="names that exist without data",
        kinds="apex|top|(pod )?namespace( in capitals)?|dns-version|ns.dns|no such name above services",
        what="NXDOMAIN became NOERROR",
        names=r"(dns-version|(ns\.)?dns|svc|pod|[^.]+\.(svc|pod))\.[^.]+\.[^.]+\.|[^.]+\.[^.]+\.",
        intentional=True,
    ),
    KnownDifference(
        name="a protocol without a port",
        kinds=".* (half a port|too many labels)",
        what="NXDOMAIN became NOERROR",
        names=r"_(tcp|udp|sctp)\.[^.]+\.[^.]+\.svc\..*",
        intentional=True,
    ),
    KnownDifference(
        name="other types in the reverse zones",
        kinds="(no such )?reverse.*",
        what="NOERROR became NXDOMAIN|NXDOMAIN became NOERROR|lacks (SOA|NS), and has no records",
        intentional=True,
    ),
    KnownDifference(
        name="ports without underscores",
        kinds="(ClusterIP|headless) (port without underscores|too many labels)",
        what="NOERROR became NXDOMAIN",
        names=r"_?[^_.]+\._?(tcp|udp|sctp)\..*",
        intentional=True,
    ),
    KnownDifference(name="the label any", names=r"([^.]+\.)*any\..*", intentional=True),
    KnownDifference(
        name="endpoints whose hostname is any",
        kinds="(ClusterIP|headless) (service|endpoint|port)( in capitals)?|reverse of an endpoint.*",
        what="(lacks|other|more) .*",
        records=r"(^|[ .])any\.",
        intentional=True,
    ),
    KnownDifference(
        name="addresses of endpoints whose hostname is any",
        kinds="(ClusterIP|headless) endpoint( in capitals)?",
        what="NXDOMAIN became NOERROR( with records)?",
        names=r"[0-9a-f]+(-[0-9a-f]*)+\..*",
        intentional=True,
    ),
    KnownDifference(
        name="several names for one address",
        kinds="reverse of .*",
        types=REVERSE,
        what="lacks PTR|lacks PTR, adds PTR",
    ),
    KnownDifference(
        name="addresses whose name does not exist",
        kinds="reverse of an endpoint( in capitals)?",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
    ),
    KnownDifference(
        name="slices that belong to no Service",
        kinds="reverse of an endpoint( in capitals)?|no such reverse",
        types=REVERSE,
        what="Timeout became (NXDOMAIN|NOERROR with records)",  # with records: a Service has it too
    ),
    KnownDifference(
        name="labels before a reverse name",
        kinds="no such reverse",
        types=REVERSE,
        what="NOERROR became NXDOMAIN",
    ),
    KnownDifference(
        name="other types at an ExternalName Service",
        kinds=SERVICE_KINDS,
        types=("TXT", "PTR"),
        what="adds (CNAME|PTR), instead of no records",
    ),
    KnownDifference(
        name="pods whose address ends in ::",
        kinds=POD_KINDS,
        what="NOERROR became NXDOMAIN",
        names=r"([^.]+\.)?[^.]*--\..*",
    ),
    KnownDifference(
        name="SRV below a pod", kinds="below a pod", types=("SRV",), what="lacks SRV, adds SRV.*"
    ),
    KnownDifference(
        name="SRV at a pod's name that is computed",
        kinds=POD_KINDS,
        types=("SRV",),
        what="lacks SRV, and has no records.*",
    ),
    KnownDifference(
        name="computed pod names in namespaces that do not exist",
        kinds="pod in no namespace",
        what="NXDOMAIN became NOERROR( with records)?",
    ),
    KnownDifference(
        name="the port _ where named ports are",
        kinds=".* unnamed port",
        what="(lacks (A|AAAA|SRV)|other (weights|IPv4 addresses)).*|NOERROR became NXDOMAIN",
    ),
    KnownDifference(
        name="endpoints whose address begins with ::",
        kinds="headless (service|endpoint|port)( without underscores| in capitals)?",
        what="NOERROR became NXDOMAIN|lacks SRV, adds SRV.*",
        names=rf"--.*|{NUMBERED_SERVICE.format('colons')}",
    ),
    KnownDifference(
        name="slices of names",
        kinds="headless (service|endpoint|port)( without underscores| in capitals)?",
        what="NOERROR became NXDOMAIN",
        names=NUMBERED_SERVICE.format("names"),
    ),
    KnownDifference(
        name="weights of pods that share an address", kinds=POD_KINDS, types=("SRV",), what="other weights"
    ),
)


INTENTIONAL = frozenset(one.name for one in KNOWN if one.intentional)


def classified(
    report: Report, title: str, capsys: pytest.CaptureFixture[str], classes: Sequence[KnownDifference] = KNOWN
) -> list[str]:
    """The class of each difference; prints a table, and fails for a difference without a class."""
    names = [next((one.name for one in classes if one.covers(each)), "") for each in report.found]
    table = report.table(title, names)
    with capsys.disabled():
        print(f"\n{table}")
    assert all(names), table
    return names
