"""What the loop says of itself after each turn: ready or why not, and the numbers of the present state.

Knows the loop's parts and changes none of them.
"""

from __future__ import annotations

from collections import Counter

from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.applier import Applier
from kube2etcd.sync.intake import Intake
from kube2etcd.sync.publisher import Publisher


def report(publisher: Publisher, intake: Intake, applier: Applier, metrics: Metrics, status: Status) -> None:
    """Tell readiness with its reasons to ``status``, and the state's numbers to ``metrics``."""
    ready = applier.equal and not intake.waiting and not applier.trouble
    reasons = _reasons(intake, applier)
    if not ready and not reasons:
        reasons.append("etcd is not equal to the cluster yet")
    if refused := applier.refused():
        reasons.append(f"etcd refuses {len(refused)} keys: {next(iter(refused.values()))}")
    if applier.held:
        reasons.append(f"{len(applier.held)} deletions are held until a second listing agrees")
    _count(publisher, intake, applier, metrics)
    metrics.ready(ready)
    status.report(ready, reasons, intake.stale)


def _reasons(intake: Intake, applier: Applier) -> list[str]:
    """Why it is not ready, or who keeps a ready one from writing."""
    reasons = [f"{kind} are not listed yet" for kind in sorted(intake.waiting)]
    reasons += [reason for reason in (applier.trouble, applier.led) if reason]
    behind = len(applier.standby.keys)
    if applier.led and behind and (applier.standby.settled or not applier.equal):
        reasons.append(f"{behind} keys in etcd are not as this bridge would write them")
    return reasons


def _count(publisher: Publisher, intake: Intake, applier: Applier, metrics: Metrics) -> None:
    store, foreign = publisher.store, applier.foreign
    odd = Counter(one.kind for one in store.rejects())
    for kind in intake.listings:
        metrics.objects(kind, store.count(kind))
        metrics.rejected(kind, odd[kind])
    metrics.foreign(len(foreign.keys), len(foreign.malformed))
    metrics.contested(len(foreign.contested))
    metrics.keys(len(applier.mirror.entries) - len(foreign.keys))
    metrics.held(len(applier.held))
    metrics.left_out(publisher.left_out())
