"""A scriptable server of etcd's v2 API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Request = tuple[str, str, dict[str, str]]
Response = tuple[int, dict[str, Any] | bytes]

#: The response of a member without a leader.
ELECTION = {"errorCode": 301, "message": "During Leader Election", "index": 3}


class Server:
    """Answers as ``answer`` says; records every request."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, dict[str, str]], Response] = lambda *_: (200, {})
        self.asked: list[Request] = []
        self.index = 10
        self.credentials: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                url = urlsplit(self.path)
                params = {key: values[0] for key, values in parse_qs(url.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(url.path).removeprefix("/v2/keys")
                server.asked.append((self.command, path, params))
                server.credentials.append(self.headers.get("Authorization"))
                status, response = server.answer(self.command, path, {**params, "body": body.decode()})
                content = response if isinstance(response, bytes) else json.dumps(response).encode()
                self.send_response(status)
                self.send_header("X-Etcd-Index", str(server.index))
                self.send_header("Content-Length", str(len(content)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def file(key: str, index: int = 5) -> dict[str, Any]:
    return {"action": "set", "node": {"key": key, "value": "1", "modifiedIndex": index}}
