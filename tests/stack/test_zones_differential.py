"""A zone of selected Services whose selector matches all of them, beside the kubernetes plugin's own zone.

The plugin serves ``all.example`` as it does a cluster's zone; ours is ``svc.all.example``, so that the same
questions are about the same Services.  What a zone of Services does not promise is listed here.
"""

import re
from collections.abc import Sequence

import pytest

from tests.stack.known_differences import KNOWN, KnownDifference, explained
from tests.stack.kubeclient import Object
from tests.stack.pair import StartPair
from tests.stack.questions import Question, questions
from tests.stack.random_cluster import random_cluster

ABOVE = "all.example"
ZONE = f"svc.{ABOVE}"

#: Many of the questions are about endpoints that have no names here.
LEAST_IDENTICAL = 0.90

#: The specification names the endpoints of headless Services alone; so do zones of Services.
PROMISED_LESS = KnownDifference(
    name="endpoints of Services with an address",
    kinds="ClusterIP (no such )?endpoint( in capitals)?",
    what="NOERROR became NXDOMAIN",
)


def detours(objects: Sequence[Object]) -> KnownDifference:
    """Services that are an alias into a zone of ours, left out: two could lead to each other for ever."""
    ours = (".cluster.local", f".{ZONE}")
    services = [
        f"{one['metadata']['name']}.{one['metadata']['namespace']}"
        for one in objects
        if f".{one.get('spec', {}).get('externalName', '').rstrip('.')}".endswith(ours)
    ]
    return KnownDifference(
        name="aliases into another zone of the server",
        kinds="ExternalName service( in capitals)?",
        what="NOERROR became NXDOMAIN",
        names=rf"(?i:({'|'.join(map(re.escape, services)) or 'none'})\.{re.escape(ZONE)}\.)",
    )


def of_the_zone(question: Question) -> bool:
    """Whether the question is for a name below the zone; its apex is a name server's, the plugin's is not."""
    return question.name.lower().endswith(f".{ZONE}.")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_zone_of_all_services(seed: int, start_pair: StartPair, capsys: pytest.CaptureFixture[str]) -> None:
    zone = {"zone": ZONE, "addresses": ["internal"], "selector": "!no-service-has-this-label"}
    pair = start_pair(pods="disabled", config={"zones": [zone]}, oracle_zones=ABOVE)
    for obj in random_cluster(seed, 40):
        pair.apiserver.apply(obj)
    pair.catch_up()
    report = pair.compare(filter(of_the_zone, questions(pair.objects(), ABOVE)))
    classes = (detours(pair.objects()), PROMISED_LESS, *KNOWN)
    explained(report, f"seed {seed}, a zone of all Services", capsys, classes)
    assert report.asked >= 1000
    assert report.answered >= 300
    assert report.identical >= LEAST_IDENTICAL
