from __future__ import annotations

import pytest

from kube2etcd.etcd.v2_nodes import Tree, decode, url_path

TREE = Tree("/skydns")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"/skydns/a/b", "/skydns/a/b"),
        (b"/skydns/a/_tcp/_http/H1", "/skydns/a/_tcp/_http/H1"),
        (b"/skydns/a/_tcp", None),
        (b"/skydns", None),
        (b"/skydns/", None),
        (b"/skydnsx/a", None),
        (b"skydns/a", None),
        (b"/skydns/a//b", None),
        (b"/skydns/a/./b", None),
        (b"/skydns/a/../b", None),
        (b"/skydns/a|b", None),
        (b"/skydns/\xff", None),
        (b"/skydns/_kube2etcd/hidden/x", None),
    ],
)
def test_keys_that_can_be_listed_have_a_path(key: bytes, path: str | None) -> None:
    assert TREE.path(key) == path


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("/skydns/a/b", None),
        ("/skydns/a_b/c", None),
        ("/skydns/a/_tcp/x", "/skydns/a/_tcp"),
        ("/skydns/a/_tcp/_http/x", "/skydns/a/_tcp/_http"),
        ("/skydns/_a/b/x", "/skydns/_a/b"),
    ],
)
def test_what_no_listing_shows_is_noted(path: str, hidden: str | None) -> None:
    assert TREE.hidden(path) == hidden
    if hidden is not None:
        note = TREE.note(hidden)
        assert note.startswith("/skydns/_kube2etcd/hidden/|")
        assert TREE.noted(note) == hidden


def test_directories_up_to_the_prefix() -> None:
    assert TREE.above("/skydns/a/b") == "/skydns/a"
    assert TREE.above("/skydns/a") is None
    assert Tree("names/").prefix == "/names"


def test_urls_are_escaped() -> None:
    assert url_path("/skydns/a b/ä?#%2F") == "/v2/keys/skydns/a%20b/%C3%A4%3F%23%252F"


def test_files_of_a_listing() -> None:
    reply = decode(
        b'{"action":"get","node":{"key":"/s","dir":true,"nodes":[{"key":"/s/a","value":"1","modifiedIndex":7,'
        b'"ttl":5},{"key":"/s/d","dir":true},{"key":"/s/e","dir":true,"nodes":[{"key":"/s/e/f","value":""}]}]}}'
    )
    assert reply.node is not None
    assert sorted((node.key, node.value, node.modified) for node in reply.node.files()) == [
        ("/s/a", "1", 7),
        ("/s/e/f", "", 0),
    ]


@pytest.mark.parametrize("body", [b"", b"404 page not found", b"[]", b'{"node":5}', b'{"node":{"key":5}}'])
def test_other_answers_are_none(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(body)
