"""Chunked answers, of which all that has arrived is given out at once.

What it is: an HTTP response that reads its chunks itself.  The standard library gives out one chunk for
each read, and the API server makes a chunk of each event of a watch: framing then costs more than
decoding the events.  What it may know: RFC 9112 section 7.1.  What it must never do: hold bytes back.
"""

from __future__ import annotations

import http.client
import re
from typing import Final

READ_SIZE: Final = 1 << 16
"""Bytes that are taken from the socket at once, where they are there."""

MAX_FRAMING: Final = 1 << 16
"""Bytes of a size line or of trailers; more is no framing."""

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")


class ChunkedResponse(http.client.HTTPResponse):
    """As the standard library's, but for ``read1`` of a chunked answer; use no other read with that."""

    _rest = b""
    """Bytes that have arrived and are an unfinished part of the framing."""
    _left = 0
    """Bytes that are still to come of the present chunk."""
    _ended = False
    """The last chunk is over; trailers and an empty line follow."""

    def read1(self, n: int = -1) -> bytes:
        """What has arrived, waiting for something if nothing has; empty at the end.

        :raises http.client.IncompleteRead: the connection ended before the answer did.
        :raises http.client.HTTPException: what has come is no chunk.
        """
        if self.fp is None or not self.chunked:
            return super().read1(n)
        while True:
            more = self.fp.read1(min(n, READ_SIZE) if n > 0 else READ_SIZE)
            if not more:
                self.close()
                raise http.client.IncompleteRead(b"")
            data = self._taken(self._rest + more if self._rest else more)
            if self._ended and self._over():
                self.close()
                return data
            if data:
                return data

    def _taken(self, data: bytes) -> bytes:
        """The contents of what has arrived; what is left of the framing waits in ``_rest``."""
        parts = []
        at, end = 0, len(data)
        while not self._ended:
            if self._left:
                # The chunk, and then the line's end, which counts as its last two bytes.
                stop = min(at + self._left, end)
                content = stop - max(0, 2 - (self._left - (stop - at)))
                if content > at:
                    parts.append(data[at:content])
                self._left -= stop - at
                at = stop
                if self._left:
                    break
            line = data.find(b"\r\n", at)
            if line < 0:
                break
            size = self._size(data[at:line])
            at = line + 2
            self._left = size + 2 if size else 0
            self._ended = not size
        self._rest = data[at:]
        if len(self._rest) > MAX_FRAMING:
            raise self._no_chunk()
        return b"".join(parts)

    def _over(self) -> bool:
        """Whether the trailers, which nobody reads, have come to their end."""
        return self._rest.startswith(b"\r\n") or b"\r\n\r\n" in self._rest

    def _size(self, line: bytes) -> int:
        number = line.partition(b";")[0].strip()
        if not _SIZE.fullmatch(number):
            raise self._no_chunk()
        return int(number, 16)

    def _no_chunk(self) -> http.client.HTTPException:
        self.close()
        return http.client.HTTPException("the answer is not in chunks as it says")
