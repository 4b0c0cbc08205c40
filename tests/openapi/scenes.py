"""What has to be there for each operation to succeed: a scene makes it at the relay and says what to ask for."""

import http.client
import json
import time
from dataclasses import dataclass, field

from signing import AccountKey, SessionKey, b64, digest, fresh, proof, signed, unb64

ENVELOPE_BYTES = PREKEYS_BYTES = 2048
PART = b"\x5a" * 100
JSON = {"Content-Type": "application/json"}


@dataclass
class Scene:
    """What a request that succeeds has beside its method and route."""

    path: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    key: AccountKey | SessionKey | None = None


def said(value: dict, **more) -> Scene:
    return Scene(headers=JSON, body=json.dumps(value).encode(), **more)


class Node:
    """A registered and signed-in account."""

    def __init__(self, authority: str):
        self.authority = authority
        self.key = AccountKey()
        self.call(self.key, "POST", "/v1/accounts", {"delivery": {"mode": "pull"}})
        self.session = SessionKey(self.call(self.key, "POST", "/v1/session"))

    def call(self, key, method: str, target: str, body: dict | bytes = b"", headers: dict | None = None) -> dict:
        """Makes a request that has to succeed; a dictionary goes as JSON."""
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), JSON
        answer = self.ask(key, method, target, body, headers)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {answer.raw!r}")
        return json.loads(answer.raw) if answer.raw else {}

    def ask(self, key, method: str, target: str, body: bytes = b"", headers: dict | None = None):
        """Makes a request; the answer has its body in `raw`."""
        connection = http.client.HTTPConnection(self.authority, timeout=30)
        connection.request(method, target, body, signed(key, self.authority, method, target, body) | (headers or {}))
        answer = connection.getresponse()
        answer.raw = answer.read()
        connection.close()
        return answer


class World:
    """A node at the relay, and a scene for each operation by its operationId."""

    def __init__(self, authority: str):
        self.authority = authority
        self.node = Node(authority)
        self.mailbox, self.send_key = self.opened()

    def scene(self, operation: str) -> Scene:
        """The scene of an operation; one that needs nothing has none of its own."""
        return getattr(self, operation, Scene)()

    def opened(self) -> tuple[bytes, bytes]:
        mailbox, key = fresh(16), fresh(32)
        self.node.call(self.node.key, "PUT", f"/v1/mailboxes/{b64(mailbox)}", {"send_keys": [b64(key)]})
        return mailbox, key

    def envelope(self) -> dict:
        raw, name = fresh(ENVELOPE_BYTES), fresh(16)
        return {
            "id": b64(name),
            "mailbox": {"relay": f"http://{self.authority}", "id": b64(self.mailbox)},
            "proof": proof(self.send_key, "post", self.mailbox, name, digest(raw)),
            "bytes": b64(raw),
        }

    def submitted(self) -> str:
        envelope = self.envelope()
        self.node.call(self.node.session, "POST", "/v1/envelopes", {"envelopes": [envelope]})
        return envelope["id"]

    def blob(self, parts: int = 0, complete: bool = False) -> tuple[str, bytes]:
        name, token = b64(fresh(16)), fresh(32)
        made = {"id": name, "size_bytes": len(PART), "fetch_token_hash": b64(digest(token)), "expires_at": in_a_day()}
        self.node.call(self.node.session, "POST", "/v1/blobs", made)
        if parts:
            self.node.call(self.node.session, "PUT", f"/v1/blobs/{name}/parts/0", PART)
        if complete:
            self.node.call(self.node.session, "POST", f"/v1/blobs/{name}/complete", {"digest": whole()})
        return name, token

    # the scenes, by operationId

    def register_account(self) -> Scene:
        return said({"delivery": {"mode": "pull"}}, key=AccountKey())

    def change_account(self) -> Scene:
        return said({"delivery": {"mode": "pull"}})

    def delete_account(self) -> Scene:
        return Scene(key=Node(self.authority).key)

    def show_checkpoint(self) -> Scene:
        body = json.dumps({"sealed": b64(fresh(100))}).encode()
        tagged = self.write_checkpoint().headers
        self.node.call(self.node.session, "PUT", "/v1/account/checkpoint", body, tagged)
        return Scene()

    def write_checkpoint(self) -> Scene:
        scene = said({"sealed": b64(fresh(100))})
        known = self.node.ask(self.node.session, "GET", "/v1/account/checkpoint")
        scene.headers = JSON | {"If-Match": known.headers.get("ETag", '"none"')}
        return scene

    def open_mailbox(self) -> Scene:
        return said({"send_keys": [b64(fresh(32))]}, path={"id": b64(fresh(16))})

    def close_mailbox(self) -> Scene:
        return Scene(path={"id": b64(self.opened()[0])})

    def publish_prekeys(self) -> Scene:
        return said({"sealed": b64(fresh(PREKEYS_BYTES))}, path={"id": b64(self.mailbox)})

    def show_prekeys(self) -> Scene:
        sealed = {"sealed": b64(fresh(PREKEYS_BYTES))}
        self.node.call(self.node.key, "PUT", f"/v1/mailboxes/{b64(self.mailbox)}/prekeys", sealed)
        now = int(time.time() * 1000)
        read = proof(self.send_key, "read", self.mailbox, now.to_bytes(8, "big"))
        headers = {"Sealpost-Proof": read, "Sealpost-Proof-Time": str(now)}
        return Scene(path={"id": b64(self.mailbox)}, headers=headers)

    def submit_envelopes(self) -> Scene:
        return said({"envelopes": [self.envelope(), self.envelope()]})

    def show_envelope(self) -> Scene:
        return Scene(path={"id": self.submitted()})

    def list_envelopes(self) -> Scene:
        return said({"ids": [self.submitted()]})

    def recall_envelope(self) -> Scene:
        name = self.submitted()
        recall = proof(self.send_key, "recall", self.mailbox, unb64(name))
        return Scene(path={"id": name}, headers={"Sealpost-Proof": recall})

    def pull_deliveries(self) -> Scene:
        self.submitted()
        return Scene()

    def acknowledge_deliveries(self) -> Scene:
        self.submitted()
        batch = self.node.call(self.node.session, "GET", "/v1/deliveries")
        results = [{"id": delivery["id"], "outcome": "stored"} for delivery in batch["deliveries"]]
        return said({"lease": batch["lease"], "results": results})

    def create_blob(self) -> Scene:
        token_hash, expires_at = b64(fresh(32)), in_a_day()
        return said({"id": b64(fresh(16)), "size_bytes": 100, "fetch_token_hash": token_hash, "expires_at": expires_at})

    def show_blob(self) -> Scene:
        return Scene(path={"id": self.blob()[0]})

    def extend_blob(self) -> Scene:
        return said({"expires_at": in_a_day() + 1}, path={"id": self.blob()[0]})

    def delete_blob(self) -> Scene:
        return Scene(path={"id": self.blob()[0]})

    def complete_blob(self) -> Scene:
        return said({"digest": whole()}, path={"id": self.blob(parts=1)[0]})

    def upload_part(self) -> Scene:
        octets = {"Content-Type": "application/octet-stream"}
        return Scene(path={"id": self.blob()[0], "number": "0"}, headers=octets, body=PART)

    def download_part(self) -> Scene:
        name, token = self.blob(parts=1, complete=True)
        return Scene(path={"id": name, "number": "0"}, headers={"Sealpost-Fetch-Token": b64(token)})


def whole() -> str:
    """The digest of a blob that has the one part."""
    return b64(digest(digest(PART)))


def in_a_day() -> int:
    return int(time.time() * 1000) + 86_400_000
