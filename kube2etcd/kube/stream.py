"""The lines of a watch, each as soon as its bytes are here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from kube2etcd.errors import ApiError, ApiTruncated
from kube2etcd.kube.failures import ApiSilent

READ_SIZE: Final = 1 << 18
"""Bytes asked for at once; what has arrived is delivered, however little."""


MAX_LINE: Final = 32 << 20
"""No object is larger than etcd takes (about 1.5 MiB); a longer line is no event."""


def arriving(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """What arrives of an answer, at once: its chunks, or what there is where it has none."""
    if getattr(response, "chunked", False):
        yield from response.stream(READ_SIZE, decode_content=True)
        return
    while part := response.read1(READ_SIZE):
        yield part


class Stream:
    """The lines of an answer that has no end of its own; each is given out as soon as it is here."""

    def __init__(self, response: urllib3.BaseHTTPResponse, explain: Callable[[Exception], ApiError]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._explain = explain

    def __iter__(self) -> Iterator[bytes]:
        """Complete lines without their end.

        :raises ApiTruncated: the last line has no end.
        :raises ApiSilent: nothing came for as long as the read timeout.
        :raises ApiUnavailable: the connection broke.
        """
        parts: list[bytes] = []
        length = 0
        for chunk in self._chunks():
            first, *rest = chunk.split(b"\n")
            parts.append(first)
            length += len(first)
            if not rest:
                if length > MAX_LINE:
                    raise ApiTruncated(f"a line of the watch has more than {MAX_LINE} bytes and no end")
                continue
            rest.insert(0, b"".join(parts))
            last = rest.pop()
            parts, length = ([last], len(last)) if last else ([], 0)
            for line in rest:
                if line:
                    yield line
        if length:
            raise ApiTruncated(f"the watch ended in the middle of a line, after {length} bytes of it")

    def _chunks(self) -> Iterator[bytes]:
        try:
            yield from arriving(self._response)
        except (ReadTimeoutError, TimeoutError) as error:
            raise ApiSilent(str(self._explain(error))) from error
        except (HTTPError, OSError, ValueError) as error:
            raise self._explain(error) from error
