"""Enough of a W&B server on loopback to take runs, and to be out of order."""

from __future__ import annotations

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """runs: by id what the client said of each. history: by id the logged rows.

    is_broken: answer everything with an error. breaks_on_run: work until a run has started.
    """

    def __init__(self, *, is_broken: bool = False, breaks_on_run: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.is_broken = is_broken
        self.breaks_on_run = breaks_on_run
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.summary: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, list[int]] = {}
        self.operations: list[str] = []
        self.received: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none."""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        self.operations.append(operation.group(1) if operation else query)
        if "upsertBucket" in query:
            name = variables["name"]
            given = {key: value for key, value in variables.items() if value is not None}
            self.runs.setdefault(name, {}).update(given)
            self.is_broken = self.breaks_on_run
            entity, project = {"id": "e", "name": "me"}, variables["project"]
            bucket = {
                "id": "UnVu",
                "name": name,
                "displayName": name,
                "config": "{}",
                "project": {"id": "p", "name": project, "entity": entity},
                "historyLineCount": 0,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/up"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, run: str, content: dict[str, Any]) -> None:
        files = content.get("files") or {}
        for line in files.get("wandb-history.jsonl", {}).get("content", []):
            self.history.setdefault(run, []).append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summary[run] = json.loads(line)
        if content.get("complete"):
            self.exit_codes.setdefault(run, []).append(content["exitcode"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *given: Any) -> None:
        """Nothing on the terminal."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append(body)
        reply: dict[str, Any] = {}
        status = 500 if self.server.is_broken else 200
        if self.server.is_broken:
            reply = {"errors": [{"message": "out of order"}]}
        elif self.path.startswith("/graphql"):
            request = json.loads(body)
            data = self.server.answer(request["query"], request.get("variables") or {})
            reply = {"data": data}
        elif "/file_stream" in self.path:
            self.server.stream(self.path.split("/")[-2], json.loads(body))
        encoded = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_PUT = do_POST  # noqa: N815
