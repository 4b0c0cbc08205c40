"""A proxy that signs: what comes in is an operation of the document, as the tool made it up; what goes on to the relay is
signed with the key that the operation wants. Every fourth request of an operation goes on as it came, every fourth with ids
and proofs that are good, every fourth with everything good, and every fourth without a signature."""

import http.client
import re
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scenes import Scene, World
from signing import signed

SIGNED_BY = {"Signature", "Signature-Input", "Content-Digest"}
NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
TURNS = ["good", "as it came", "good ids", "unsigned"]


class Operation:
    """One operation of the document."""

    def __init__(self, template: str, method: str, described: dict):
        self.template, self.method, self.id = template, method.upper(), described["operationId"]
        schemes = [scheme for one in described.get("security", []) for scheme in one]
        self.scheme = schemes[0] if schemes else None
        self.pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(template)))


class Proxy:
    """Passes requests on, and counts what each operation was answered."""

    def __init__(self, authority: str, document: dict):
        self.authority, self.world = authority, World(authority)
        self.operations = [
            Operation(template, method, described)
            for template, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        self.asked, self.answers = Counter(), defaultdict(Counter)

    def serve(self) -> str:
        """Serves in the background; returns where."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str):
                if name.startswith("do_"):
                    return lambda: proxy.pass_on(self)
                raise AttributeError(name)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def pass_on(self, asked: BaseHTTPRequestHandler):
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in NOT_PASSED_ON}
        path, mark, query = asked.path.partition("?")
        operation = next((one for one in self.operations if one.method == asked.command and one.pattern.fullmatch(path)), None)
        if operation is None:
            self.answer(asked, None, asked.path, headers, body)
            return
        turn = TURNS[self.asked[operation.id] % len(TURNS)]
        self.asked[operation.id] += 1
        scene = self.world.scene(operation.id)
        # The relay would wait, and the run with it.
        query = re.sub(r"(^|&)wait=\d+", r"\1wait=0", query)
        if turn in ("good", "good ids"):
            path = operation.template.format(**scene.path) if scene.path else path
            good = {name.lower() for name in scene.headers}
            kept = {name: value for name, value in headers.items() if name.lower() not in good}
            headers = kept | {n: v for n, v in scene.headers.items() if turn == "good" or n.lower() != "content-type"}
        if turn == "good":
            body, query, mark = scene.body, "", ""
        target = path + (mark and "?") + query
        if turn != "unsigned":
            headers |= self.signature(operation, scene, target, body)
        self.answer(asked, operation, target, headers, body)

    def signature(self, operation: Operation, scene: Scene, target: str, body: bytes) -> dict[str, str]:
        if operation.scheme is None:
            return {}
        key = scene.key or (self.world.node.key if operation.scheme == "account_key" else self.world.node.session)
        return signed(key, self.authority, operation.method, target, body)

    def answer(self, asked: BaseHTTPRequestHandler, operation: Operation | None, target: str, headers: dict, body: bytes):
        connection = http.client.HTTPConnection(self.authority, timeout=30)
        connection.request(asked.command, target, body or None, headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        if operation is not None:
            self.answers[operation.id][answer.status] += 1
        asked.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                asked.send_header(name, value)
        if answer.status not in (204, 304):
            asked.send_header("Content-Length", str(len(raw)))
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(raw)
