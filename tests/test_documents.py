"""Ambiguous YAML and YAML bombs."""

from typing import Any

import pytest

from kube2etcd.documents import MAX_VALUES, NotJson, Unreadable, read_documents, read_json

#: Nine lines that expand to a billion strings.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("--- \n---\n", [None, None]),
        ("a: 1\n--- [b, 2.5, yes, null]", [{"a": 1}, ["b", 2.5, True, None]]),
        (b"\xef\xbb\xbfa: \xc3\xbc", [{"a": "\u00fc"}]),
        ("created: 2026-01-02T03:04:05Z", [{"created": "2026-01-02T03:04:05Z"}]),
        ("enum: [=, '!=']", [{"enum": ["=", "!="]}]),
        ("a: &x {b: c}\nd: *x\ne: *x", [{"a": {"b": "c"}, "d": {"b": "c"}, "e": {"b": "c"}}]),
    ],
)
def test_valid_yaml(text: str | bytes, values: list[Any]) -> None:
    assert read_documents(text) == values


@pytest.mark.parametrize("key", ["b", "a key that is not interned"])
@pytest.mark.parametrize(
    ("merged", "wins"),
    [
        ("<<: *x", "of x"),
        ("<<: *y", "of y"),
        ("<<: [*x, *y]", "of x"),
        ("<<: [*y, *x]", "of y"),
        ("<<: *x, {key}: own", "own"),
        ("{key}: own, <<: [*x, *y]", "own"),
        ("<<: *z", "of z"),
        ("<<: [*z, *x]", "of z"),
    ],
)
def test_precedence_of_merge_keys(key: str, merged: str, wins: str) -> None:
    text = f"x: &x {{{key}: of x, c: 1}}\ny: &y {{{key}: of y}}\nz: &z {{<<: [*y, *x], {key}: of z}}\n"
    [read] = read_documents(f"{text}it: {{{merged.format(key=key)}}}")
    assert read["it"][key] == wins
    assert read["z"] == {key: "of z", "c": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key a appears twice; keep one"),
        ('a: 1\n"\\e[1m": 2\n"\\e[1m": 3', r"line 3, column 1: the key '\x1b[1m' appears twice"),
        ("[{a: 1}, {a: 1, a: 1}]", "line 1, column 17: the key a appears twice"),
        ("&a [*a]", "line 1, column 1: a value contains itself"),
        ("a: &a {b: {c: *a}}", "line 1, column 4: a value contains itself"),
        (BOMB, "line 6, column 5: its aliases expand to too many values"),
        ("a: !!binary aGVsbG8=", "line 1, column 4: could not determine a constructor for the tag"),
        ("a: !!timestamp 2026-01-02", "line 1, column 4: could not determine a constructor for the tag"),
        ("a: !!int x", "line 1, column 4: the value is not a valid int"),
        ("a: !!bool x", "line 1, column 4: the value is not a valid bool"),
        ("a: " + "9" * 5000, "line 1, column 4: the value is not a valid int"),
        ("a: 0x" + "f" * 5000, "line 1, column 4: the value is not a valid int"),
        ('a: "\\U00110000"', "an escaped character is beyond U+10FFFF"),
        ("a: {<<: b}", "line 1, column 9: expected a mapping for merging, but found scalar"),
        ("a: {<<: [{b: c}, d]}", "line 1, column 18: expected a mapping for merging, but found scalar"),
        ("{[a]: b}", "line 1, column 2: a key is a list or a mapping; use text"),
        ("a: [", "line 1, column 5: while parsing a flow node; expected the node content"),
        ("a: \x00", "a character at 3 is not allowed (U+0000)"),
        (b"a: \xff", "not UTF-8 (byte 3)"),
        ("[" * 1000, "it is nested too deeply"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_invalid_yaml(text: str | bytes, message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_documents(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.documents.MAX_VALUES", -MAX_VALUES)
    with pytest.raises(Unreadable, match="too many"):
        read_documents("a: [b, c]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, true, null, "\u00fc"]}', {"a": [1, 2.5, True, None, "\u00fc"]}),
        ('{"a": {"a": 1}, "b": {"a": 2}}', {"a": {"a": 1}, "b": {"a": 2}}),
        ("[123456789012345678901234567890]", [123456789012345678901234567890]),
    ],
    ids=["plain", "key in several objects", "long number"],
)
def test_valid_json(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1,\n "b": {"c": "{\\"}",\n\t"c" : "c"}}', "c"),
        ('[{"a": 1}, {"b": 0, "a": 1, "\\u0061": 1}]', "a"),
        ('{"\\u001b": 1, "\\u001b": 2}', r"'\x1b'"),
    ],
)
def test_duplicate_key_in_json(text: str, key: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_json(text)
    assert str(caught.value) == f"the key {key} appears twice; keep one of them"


@pytest.mark.parametrize("text", ["{a: 1}", "{", "[" * 1000, '["\\ud800"]', "[NaN]"])
def test_invalid_json(text: str) -> None:
    with pytest.raises(NotJson):
        read_json(text)
