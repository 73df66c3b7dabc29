"""Our block in a hosts file, and the bytes around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.webhook.hosts import HostsBlock
from tests.strategies import LAW

BEGIN, END = b"# BEGIN kube2etcd", b"# END kube2etcd"
WANTED = [("a.dtk.io", "10.0.0.1"), ("b.dtk.io", "10.0.0.2"), ("b.dtk.io", "fd00::2")]
FIRST = BEGIN + b" webhook: written by a program, changes in here do not last\n"
BLOCK = FIRST + b"10.0.0.1 a.dtk.io\n10.0.0.2 b.dtk.io\nfd00::2 b.dtk.io\n" + END + b"\n"


def ours(name: str) -> bool:
    return name == "dtk.io" or name.endswith(".dtk.io")


def written(content: bytes, wanted: list[tuple[str, str]] = WANTED) -> bytes:
    return HostsBlock().rewrite(content, wanted, ours).content


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", BLOCK),
        (b"127.0.0.1 localhost\n", b"127.0.0.1 localhost\n" + BLOCK),
        (b"127.0.0.1 localhost", b"127.0.0.1 localhost\n" + BLOCK),
        (b"127.0.0.1 localhost\n\n\n", b"127.0.0.1 localhost\n\n\n" + BLOCK),
        (b"# caf\xe9 \xff\n", b"# caf\xe9 \xff\n" + BLOCK),
        (b"one\n" + BEGIN + b"\n1.1.1.1 old.dtk.io\n" + END + b"\ntwo", b"one\n" + BLOCK + b"two"),
        (b"one\n" + BEGIN + b" v0\n" + END + b" x", b"one\n" + BLOCK),
        # unpaired and duplicate markers
        (b"one\n" + BEGIN, b"one\n" + BLOCK),
        (b"one\n" + END + b"\ntwo\n", b"one\ntwo\n" + BLOCK),
        (b"one\n" + BLOCK + b"two\n" + BLOCK + b"three\n", b"one\n" + BLOCK + b"two\nthree\n"),
        (FIRST + b"10.0.0.7 x.dtk.io\nmine\n" + BLOCK, BLOCK + b"mine\n"),
        # foreign lines in the block move behind it
        (
            FIRST + b"# mine\n10.0.0.9 a b\n6.6.6.6 bank.com\n" + END + b"\n",
            BLOCK + b"# mine\n10.0.0.9 a b\n",
        ),
        # every name is on a user's line
        (b"10.0.0.9 a.dtk.io b.dtk.io\n", b"10.0.0.9 a.dtk.io b.dtk.io\n"),
    ],
)
def test_block_is_appended_then_updated_in_place(before: bytes, after: bytes) -> None:
    assert written(before) == after
    assert written(after) == after


def test_line_ends_are_those_of_the_file() -> None:
    found = written(b"127.0.0.1 localhost\r\n# x\r\n# y\n")
    assert found == b"127.0.0.1 localhost\r\n# x\r\n# y\n" + BLOCK.replace(b"\n", b"\r\n")
    assert written(found) == found
    assert written(
        b"127.0.0.1 localhost\r\n10.0.0.9 x"
    ) == b"127.0.0.1 localhost\r\n10.0.0.9 x\r\n" + BLOCK.replace(b"\n", b"\r\n")
    alone = BLOCK.replace(b"\n", b"\r\n")
    assert written(alone) == alone


def test_name_on_a_foreign_line_is_left_out() -> None:
    before = b"10.0.0.9 printer B.dtk.io. # mine\n# 10.0.0.9 a.dtk.io\n"
    found = HostsBlock().rewrite(before, WANTED, ours)
    assert found.left_to_others == ["b.dtk.io"]
    assert found.content == before + FIRST + b"10.0.0.1 a.dtk.io\n" + END + b"\n"


def test_torn_block_loses_only_our_lines() -> None:
    torn = (
        b"one\n" + FIRST + b"10.0.0.1 a.dtk.io\n10.0.0.3\tc.dtk.io d.dtk.io\n10.0.0.9 printer\n"
        b"10.0.0.4 e.dtk.io\ntwo\n"
    )
    wanted = [("a.dtk.io", "10.0.0.1")]
    block = FIRST + b"10.0.0.1 a.dtk.io\n" + END + b"\n"
    assert written(torn, wanted) == b"one\n" + block + b"10.0.0.9 printer\n10.0.0.4 e.dtk.io\ntwo\n"
    for line in (b"# comment\n", b"\n", b"nonsense x.dtk.io\n", b"10.0.0.1\n", b"10.0.0.1 c.dtk.io x # y\n"):
        assert written(FIRST + line, wanted).endswith(END + b"\n" + line)


#: Markers, our lines, and the user's lines.
LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"# mine",
            b"10.0.0.9 printer",
            b"10.0.0.9 a.dtk.io",
            b"10.0.0.1 a.dtk.io",
            b"\xff\xfe",
            BEGIN,
            END,
            FIRST.rstrip(),
            b"10.0.0.1 x.dtk.io\r",
        ]
    ),
    max_size=12,
)
FILES = st.tuples(LINES, st.booleans()).map(lambda both: b"\n".join(both[0]) + b"\n" * both[1])


@LAW
@given(FILES, st.lists(st.sampled_from(WANTED), unique=True).map(sorted))
def test_rewrite_is_idempotent(content: bytes, wanted: list[tuple[str, str]]) -> None:
    once = written(content, wanted)
    assert written(once, wanted) == once
    assert once.count(BEGIN) == once.count(END) <= 1


@LAW
@given(FILES, st.lists(st.sampled_from(WANTED), unique=True).map(sorted))
def test_foreign_lines_keep_their_order(content: bytes, wanted: list[tuple[str, str]]) -> None:
    def foreign(text: bytes) -> list[bytes]:
        # A missing final line break is added, CR LF in some files.
        lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
        return [line for line in lines if line in (b"# mine", b"\xff\xfe")]

    assert foreign(written(content, wanted)) == foreign(content)


#: Any bytes but markers.
USERS = (
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from([b"\r\n", b"\n", b"\r", b"\x00", b"#", b"\xef\xbb\xbf", b"10.0.0.1 "]),
        ),
        max_size=12,
    )
    .map(b"".join)
    .filter(lambda content: b"kube2etcd" not in content)
)


def without_block(content: bytes) -> bytes:
    """The content without the block."""
    start, end = content.index(BEGIN), content.index(END)
    return content[:start] + content[end:].split(b"\n", 1)[1]


@LAW
@given(USERS)
def test_foreign_bytes_are_preserved(content: bytes) -> None:
    found = written(content)
    added = without_block(found).removeprefix(content)
    assert found.startswith(content)
    assert added in ((b"",) if content.endswith(b"\n") or not content else (b"\n", b"\r\n"))
    assert written(found, []) == content + added
    assert written(found) == found


@LAW
@given(USERS, USERS)
def test_bytes_around_a_block_are_preserved(before: bytes, after: bytes) -> None:
    before += b"" if before.endswith(b"\n") or not before else b"\n"
    around = before + BLOCK + after
    assert without_block(written(around, [("c.dtk.io", "10.0.0.3")])) == before + after
    assert written(around, []) == before + after


def test_each_owner_has_its_own_block() -> None:
    one, two = HostsBlock("a"), HostsBlock("b c")
    content = b"127.0.0.1 localhost\n"
    for block, address in ((HostsBlock(), "10.0.0.1"), (one, "10.0.0.2"), (two, "10.0.0.3")):
        content = block.rewrite(content, [(f"{address[-1]}.dtk.io", address)], ours).content
    assert content.decode().splitlines()[1:] == [
        FIRST.decode().strip(),
        "10.0.0.1 1.dtk.io",
        "# END kube2etcd",
        "# BEGIN kube2etcd owner=a webhook: written by a program, changes in here do not last",
        "10.0.0.2 2.dtk.io",
        "# END kube2etcd owner=a",
        "# BEGIN kube2etcd owner=b%20c webhook: written by a program, changes in here do not last",
        "10.0.0.3 3.dtk.io",
        "# END kube2etcd owner=b%20c",
    ]
    for block in (HostsBlock(), one, two):
        assert block.rewrite(content, [], ours).content.count(b"BEGIN") == 2
    # The name is in another owner's block.
    assert one.rewrite(content, [("1.dtk.io", "10.0.0.9")], ours).left_to_others == ["1.dtk.io"]
    # A torn block ends where the next one begins.
    torn = content.replace(b"# END kube2etcd owner=a\n", b"")
    assert one.rewrite(torn, [("2.dtk.io", "10.0.0.2")], ours).content == content
    torn = content.replace(b"# END kube2etcd\n", b"")
    assert HostsBlock().rewrite(torn, [("1.dtk.io", "10.0.0.1")], ours).content == content


def test_longer_marker_is_foreign() -> None:
    foreign = b"# BEGIN kube2etcd-lab\n10.0.0.9 x.dtk.io\n# END kube2etcd-lab\n"
    assert written(foreign) == foreign + BLOCK


@pytest.mark.parametrize("rest", [b"", b"127.0.0.1 localhost\n"])
def test_byte_order_mark_is_kept(rest: bytes) -> None:
    bom = b"\xef\xbb\xbf"
    assert written(bom + BLOCK + rest) == bom + BLOCK + rest
    assert written(bom + BLOCK + rest, []) == bom + rest
    assert written(bom + rest) == bom + (rest or b"\n") + BLOCK
    assert HostsBlock().rewrite(bom + b"10.0.0.9 a.dtk.io\n", WANTED, ours).left_to_others == ["a.dtk.io"]
