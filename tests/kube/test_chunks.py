"""Chunks are put together whatever pieces they arrive in, and nothing that is no chunk is taken for one."""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.kube.chunks import MAX_FRAMING, ChunkedResponse

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Pieces(io.RawIOBase):
    """A socket's file that gives out these pieces, one for each read."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        view = memoryview(buffer)
        taken = min(len(view), len(piece))
        view[:taken] = piece[:taken]
        if taken < len(piece):
            self.pieces.insert(0, piece[taken:])
        return taken


class Socket:
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(Pieces(self.pieces))


def response(*pieces: bytes) -> ChunkedResponse:
    made = ChunkedResponse(Socket([HEAD, *pieces]))  # type: ignore[arg-type]
    made.begin()
    return made


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%X%s\r\n%s\r\n" % (len(data), extension, data)


def read_all(one: ChunkedResponse, size: int = -1) -> bytes:
    parts = []
    while data := one.read1(size):
        parts.append(data)
    return b"".join(parts)


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a=1", b" ; a"]))),
    st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
    st.lists(st.integers(1, 50)),
    st.sampled_from([-1, 1, 7, 1000]),
)
def test_any_pieces(chunks: list[tuple[bytes, bytes]], trailers: bytes, cuts: list[int], size: int) -> None:
    wire = b"".join(chunk(data, extension) for data, extension in chunks) + b"0\r\n" + trailers + b"\r\n"
    pieces = []
    for cut in cuts:
        pieces.append(wire[:cut])
        wire = wire[cut:]
    one = response(*filter(None, pieces), wire) if wire else response(*filter(None, pieces))
    assert read_all(one, size) == b"".join(data for data, _ in chunks)
    assert one.isclosed()
    assert one.read1() == b""


def test_all_that_has_arrived_comes_at_once_and_what_is_there_never_waits() -> None:
    one = response(b"".join(chunk(b"%d\n" % number) for number in range(100)) + b"5\r\nab", b"cde\r\n")
    first = one.read1()
    assert first == b"".join(b"%d\n" % number for number in range(100)) + b"ab"
    assert one.read1() == b"cde"


@pytest.mark.parametrize("cut", [1, 2, 4, 6, 7, 8, 9, 11])
def test_an_end_before_the_end(cut: int) -> None:
    wire = chunk(b"abc") + b"0\r\n\r\n"
    one = response(wire[:cut])
    with pytest.raises(http.client.IncompleteRead):
        read_all(one)
    assert one.isclosed()


@pytest.mark.parametrize(
    "wire",
    [
        b"xyz\r\nabc\r\n",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"1_0\r\n",
        b"\r\n",
        b"3\r\nabcdef\r\n",
        b"f" * 16 + b"\r\n",
        b"1" * (MAX_FRAMING + 1),
        b"0\r\n" + b"A: b\r\n" * MAX_FRAMING,
    ],
)
def test_what_is_no_chunk(wire: bytes) -> None:
    one = response(wire)
    with pytest.raises(http.client.HTTPException):
        read_all(one)
    assert one.isclosed()


def test_an_answer_of_known_length_is_read_as_ever() -> None:
    one = ChunkedResponse(Socket([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc"]))  # type: ignore[arg-type]
    one.begin()
    assert read_all(one) == b"abc"
