"""Services whose EndpointSlices crowd: the same few addresses, host names and ports again and again.

`tests.stack.random_cluster` has every kind of object, but hardly ever an address in two slices of one
Service.  Here most are: with other ports, with none, not ready in one of them, under another host name.
A function of the seed.
"""

import copy
import random
from collections.abc import Sequence

from tests.stack import objects
from tests.stack.kubeclient import Object, Operation
from tests.stack.objects import SERVICE_NAME

NAMESPACE = "crowd"
POOLS = {4: ("172.16.0.1", "172.16.0.2", "172.16.0.3"), 6: ("fd00:20::1", "fd00:20:5::", "2001:db8::7:1")}
PORT_NAMES = ("", "http", "x")
NUMBERS = (80, 80, 81, None)
#: One of them is what an address without a host name is called.
HOSTNAMES = ("web-0", "a", "172-16-0-1", "fd00-20--1")


def crowded(seed: int, count: int = 150) -> list[Object]:
    """A Namespace, ``count`` Services, most of them headless, and one to four slices for each."""
    pick = random.Random(seed)
    made: list[Object] = [
        objects.namespace(NAMESPACE),
        *(_service(pick, f"s{number}") for number in range(count)),
    ]
    for number in range(count):
        made += [_slice(pick, f"s{number}", piece) for piece in range(pick.choice([1, 2, 2, 3, 4]))]
    return made


def disturbed(seed: int, objects: Sequence[Object]) -> list[Operation]:
    """A change of every second slice or so, in another order than they were made in.

    Slices are deleted, made anew, moved to another Service, or get other endpoints or ports.
    """
    pick = random.Random(seed)
    slices = [copy.deepcopy(one) for one in objects if one["kind"] == "EndpointSlice"]
    names = [one["metadata"]["name"] for one in objects if one["kind"] == "Service"]
    operations = []
    for one in pick.sample(slices, len(slices) // 2):
        chance = pick.random()
        if chance < 0.5:
            operations.append(Operation("delete", one))
        if chance < 0.1:
            continue
        if 0.4 < chance < 0.7:
            one["metadata"]["labels"] = {SERVICE_NAME: pick.choice(names)}
        elif chance >= 0.7:
            fresh = _slice(pick, "other", 0, 4 if one["addressType"] == "IPv4" else 6)
            what = pick.choice(("endpoints", "ports"))
            one[what] = fresh[what]
        operations.append(Operation("apply", one))
    return operations


def _service(pick: random.Random, name: str) -> Object:
    ports = [
        {"name": port, "port": 80 + number, "protocol": pick.choice(["TCP", "UDP"])}
        for number, port in enumerate(pick.sample(("http", "x"), pick.choice([1, 2])))
    ]
    headless: Object = {"clusterIP": "None"} if pick.random() < 0.75 else {}
    return objects.service(name, NAMESPACE, ports=ports, **headless)


def _slice(pick: random.Random, service: str, number: int, version: int = 0) -> Object:
    version = version or pick.choice([4, 4, 6])
    names = pick.sample(PORT_NAMES, pick.choice([0, 0, 1, 1, 2, 3]))
    ends = [_endpoint(pick, version) for _ in range(pick.choice([0, 1, 1, 2, 2, 3]))]
    ports = [_port(pick, name) for name in names]
    family = f"IPv{version}"
    return objects.endpoint_slice(
        f"{service}-{number}", service, ends, namespace=NAMESPACE, family=family, ports=ports
    )


def _endpoint(pick: random.Random, version: int) -> Object:
    ready = pick.choice([True, True, True, None, False])
    made: Object = {
        "addresses": pick.sample(POOLS[version], pick.choice([1, 1, 1, 2])),
        "conditions": {} if ready is None else {"ready": ready, "terminating": pick.random() < 0.2},
    }
    if pick.random() < 0.4:
        made["hostname"] = pick.choice(HOSTNAMES)
    return made


def _port(pick: random.Random, name: str) -> Object:
    made: Object = {"name": name, "protocol": pick.choice(["TCP", "TCP", "UDP"])}
    if (number := pick.choice(NUMBERS)) is not None:
        made["port"] = number
    return made
