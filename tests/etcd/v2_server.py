"""A scriptable server of etcd's v2 API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.kube.scripted import Handler, Scripted, respond

Request = tuple[str, str, dict[str, str]]
Response = tuple[int, dict[str, Any] | bytes]

#: The response of a member without a leader.
ELECTION = {"errorCode": 301, "message": "During Leader Election", "index": 3}


class Server(Scripted):
    """Responds with the result of ``answer``; records every request."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = [self._play]
        self.answer: Callable[[str, str, dict[str, str]], Response] = lambda *_: (200, {})
        self.calls: list[Request] = []
        self.index = 10

    def _play(self, handler: Handler) -> None:
        url = urlsplit(handler.path)
        params = {key: values[0] for key, values in parse_qs(url.query).items()}
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        path = unquote(url.path).removeprefix("/v2/keys")
        self.calls.append((handler.command, path, params))
        status, response = self.answer(handler.command, path, {**params, "body": body.decode()})
        content = response if isinstance(response, bytes) else json.dumps(response).encode()
        headers = {"X_Etcd_Index": str(self.index)}
        if 300 <= status < 400:
            headers["Location"] = "http://127.0.0.1:1/"
        respond(content, status, **headers)(handler)


def file(key: str, index: int = 5) -> dict[str, Any]:
    return {"action": "set", "node": {"key": key, "value": "1", "modifiedIndex": index}}
