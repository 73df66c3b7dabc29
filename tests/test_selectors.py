"""Label selectors as the API server understands them."""

import pytest

from kube2etcd.settings.values import EVERYTHING, Selector

LABELS = {"env": "staging", "tenant": "b", "empty": "", "example.com/tier": "web"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("env=staging", True),
        ("env==staging", True),
        ("env = staging , tenant=b", True),
        ("env=prod", False),
        ("env!=prod", True),
        ("env!=staging", False),
        ("missing!=x", True),
        ("missing=", False),
        ("empty=", True),
        ("env", True),
        ("missing", False),
        ("!missing", True),
        ("! env", False),
        ("env in (staging, prod)", True),
        ("env in (prod),tenant=b", False),
        ("env notin (prod)", True),
        ("missing notin (a,b)", True),
        ("missing in (a,b)", False),
        ("example.com/tier=web", True),
        ("env in (staging),!missing,tenant notin (a,c)", True),
    ],
)
def test_matches(text: str, matches: bool) -> None:
    assert Selector.parse(text).matches(LABELS) is matches


def test_empty_selector_matches_everything() -> None:
    assert Selector.parse("") == EVERYTHING
    assert EVERYTHING.matches({})


@pytest.mark.parametrize(
    "text",
    [
        "a,,b",
        ",",
        "env=a b",
        "env in",
        "env in ()x",
        "env in (a",
        "env > 1",
        "-a=b",
        "env=-a",
        "=a",
        "a in (-)",
    ],
)
def test_invalid_selectors(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label requirement"):
        Selector.parse(text)
