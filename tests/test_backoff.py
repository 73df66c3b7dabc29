import random

from kube2etcd.backoff import BACKOFF_FLOOR, Backoff


def test_backoff_doubles_up_to_its_limit_with_jitter() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    class Lowest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return a

    high, low = Backoff(Highest()), Backoff(Lowest())
    assert [high.next() for _ in range(8)] == [0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0]
    assert [low.next() for _ in range(3)] == [BACKOFF_FLOOR] * 3
    high.reset()
    assert high.next() == 0.8
