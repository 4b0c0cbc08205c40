"""A signing proxy between schemathesis and the relay.

The proxy signs each generated request with the key that its operation requires. It cycles through
four modes: a valid request instead of the generated one, the generated request unchanged, with
valid ids and proofs, or without a signature.
"""

import http.client
import re
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fixtures import Fixtures, ValidRequest
from signing import signed

NOT_FORWARDED = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
MODES = ["valid", "unchanged", "valid ids", "unsigned"]


class Operation:
    """Operation of the document."""

    def __init__(self, template: str, method: str, definition: dict):
        self.template, self.method, self.id = template, method.upper(), definition["operationId"]
        schemes = [scheme for one in definition.get("security", []) for scheme in one]
        self.scheme = schemes[0] if schemes else None
        self.pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(template)))


class Proxy:
    """Forwards requests and counts the response statuses of each operation."""

    def __init__(self, authority: str, document: dict):
        self.authority, self.fixtures = authority, Fixtures(authority)
        self.operations = [
            Operation(template, method, definition)
            for template, methods in document["paths"].items()
            for method, definition in methods.items()
        ]
        self.requests, self.responses = Counter(), defaultdict(Counter)

    def serve(self) -> str:
        """Serves in the background; returns the URL."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str):
                if name.startswith("do_"):
                    return lambda: proxy.forward(self)
                raise AttributeError(name)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def forward(self, incoming: BaseHTTPRequestHandler):
        body = incoming.rfile.read(int(incoming.headers.get("Content-Length") or 0))
        headers = {
            name: value
            for name, value in incoming.headers.items()
            if name.lower() not in NOT_FORWARDED
        }
        path, separator, query = incoming.path.partition("?")
        operation = next(
            (
                one
                for one in self.operations
                if one.method == incoming.command and one.pattern.fullmatch(path)
            ),
            None,
        )
        if operation is None:
            self.respond(incoming, None, incoming.path, headers, body)
            return
        mode = MODES[self.requests[operation.id] % len(MODES)]
        self.requests[operation.id] += 1
        request = self.fixtures.request(operation.id)
        # Without this a long poll would delay the whole run.
        query = re.sub(r"(^|&)wait=\d+", r"\1wait=0", query)
        if mode in ("valid", "valid ids"):
            path = operation.template.format(**request.path) if request.path else path
            replaced = {name.lower() for name in request.headers}
            remaining = {
                name: value for name, value in headers.items() if name.lower() not in replaced
            }
            headers = remaining | {
                name: value
                for name, value in request.headers.items()
                if mode == "valid" or name.lower() != "content-type"
            }
        if mode == "valid":
            body, query, separator = request.body, "", ""
        target = path + (separator and "?") + query
        if mode != "unsigned":
            headers |= self.signature(operation, request, target, body)
        self.respond(incoming, operation, target, headers, body)

    def signature(
        self, operation: Operation, request: ValidRequest, target: str, body: bytes
    ) -> dict[str, str]:
        if operation.scheme is None:
            return {}
        key = request.key or (
            self.fixtures.node.key
            if operation.scheme == "account_key"
            else self.fixtures.node.session
        )
        return signed(key, self.authority, operation.method, target, body)

    def respond(
        self,
        incoming: BaseHTTPRequestHandler,
        operation: Operation | None,
        target: str,
        headers: dict,
        body: bytes,
    ):
        connection = http.client.HTTPConnection(self.authority, timeout=30)
        connection.request(incoming.command, target, body or None, headers)
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        if operation is not None:
            self.responses[operation.id][response.status] += 1
        incoming.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                incoming.send_header(name, value)
        if response.status not in (204, 304):
            incoming.send_header("Content-Length", str(len(raw)))
        incoming.end_headers()
        if incoming.command != "HEAD":
            incoming.wfile.write(raw)
