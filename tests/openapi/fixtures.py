"""Valid requests for each operation, and the resources at the relay that they need."""

import http.client
import json
import time
from dataclasses import dataclass, field

from signing import AccountKey, SessionKey, b64, digest, proof, random_bytes, signed, unb64

ENVELOPE_BYTES = PREKEYS_BYTES = 2048
PART = b"\x5a" * 100
JSON = {"Content-Type": "application/json"}


@dataclass
class ValidRequest:
    """Path, headers, body and key of a valid request."""

    path: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    key: AccountKey | SessionKey | None = None


def json_request(value: dict, **more) -> ValidRequest:
    return ValidRequest(headers=JSON, body=json.dumps(value).encode(), **more)


class Node:
    """Registered account with a session."""

    def __init__(self, authority: str):
        self.authority = authority
        self.key = AccountKey()
        self.call(self.key, "POST", "/v1/accounts", {"delivery": {"mode": "pull"}})
        self.session = SessionKey(self.call(self.key, "POST", "/v1/session"))

    def call(
        self, key, method: str, target: str, body: dict | bytes = b"", headers: dict | None = None
    ) -> dict:
        """Sends a request that must succeed; a dictionary is sent as JSON."""
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), JSON
        response = self.send(key, method, target, body, headers)
        if response.status >= 300:
            raise RuntimeError(f"{method} {target}: {response.status} {response.raw!r}")
        return json.loads(response.raw) if response.raw else {}

    def send(self, key, method: str, target: str, body: bytes = b"", headers: dict | None = None):
        """Sends a request; the response has its body in `raw`."""
        connection = http.client.HTTPConnection(self.authority, timeout=30)
        connection.request(
            method,
            target,
            body,
            signed(key, self.authority, method, target, body) | (headers or {}),
        )
        response = connection.getresponse()
        response.raw = response.read()
        connection.close()
        return response


class Fixtures:
    """A node at the relay, and a method for each operationId that prepares a valid request."""

    def __init__(self, authority: str):
        self.authority = authority
        self.node = Node(authority)
        self.mailbox, self.send_key = self.open_new_mailbox()

    def request(self, operation: str) -> ValidRequest:
        """Returns a valid request for an operation; the default is an empty one."""
        return getattr(self, operation, ValidRequest)()

    def open_new_mailbox(self) -> tuple[bytes, bytes]:
        mailbox, key = random_bytes(16), random_bytes(32)
        self.node.call(
            self.node.key, "PUT", f"/v1/mailboxes/{b64(mailbox)}", {"send_keys": [b64(key)]}
        )
        return mailbox, key

    def new_envelope(self) -> dict:
        raw, envelope_id = random_bytes(ENVELOPE_BYTES), random_bytes(16)
        return {
            "id": b64(envelope_id),
            "mailbox": {"relay": f"http://{self.authority}", "id": b64(self.mailbox)},
            "proof": proof(self.send_key, "post", self.mailbox, envelope_id, digest(raw)),
            "bytes": b64(raw),
        }

    def submit_envelope(self) -> str:
        envelope = self.new_envelope()
        self.node.call(self.node.session, "POST", "/v1/envelopes", {"envelopes": [envelope]})
        return envelope["id"]

    def create_new_blob(self, parts: int = 0, complete: bool = False) -> tuple[str, bytes]:
        blob_id, token = b64(random_bytes(16)), random_bytes(32)
        blob = {
            "id": blob_id,
            "size_bytes": len(PART),
            "fetch_token_hash": b64(digest(token)),
            "expires_at": in_one_day(),
        }
        self.node.call(self.node.session, "POST", "/v1/blobs", blob)
        if parts:
            self.node.call(self.node.session, "PUT", f"/v1/blobs/{blob_id}/parts/0", PART)
        if complete:
            self.node.call(
                self.node.session, "POST", f"/v1/blobs/{blob_id}/complete", {"digest": blob_digest()}
            )
        return blob_id, token

    # Valid requests by operationId

    def register_account(self) -> ValidRequest:
        return json_request({"delivery": {"mode": "pull"}}, key=AccountKey())

    def change_account(self) -> ValidRequest:
        return json_request({"delivery": {"mode": "pull"}})

    def delete_account(self) -> ValidRequest:
        return ValidRequest(key=Node(self.authority).key)

    def show_checkpoint(self) -> ValidRequest:
        body = json.dumps({"sealed": b64(random_bytes(100))}).encode()
        tagged = self.write_checkpoint().headers
        self.node.call(self.node.session, "PUT", "/v1/account/checkpoint", body, tagged)
        return ValidRequest()

    def write_checkpoint(self) -> ValidRequest:
        request = json_request({"sealed": b64(random_bytes(100))})
        current = self.node.send(self.node.session, "GET", "/v1/account/checkpoint")
        request.headers = JSON | {"If-Match": current.headers.get("ETag", '"none"')}
        return request

    def create_mailbox(self) -> ValidRequest:
        return json_request(
            {"send_keys": [b64(random_bytes(32))]}, path={"id": b64(random_bytes(16))}
        )

    def delete_mailbox(self) -> ValidRequest:
        return ValidRequest(path={"id": b64(self.open_new_mailbox()[0])})

    def publish_prekeys(self) -> ValidRequest:
        return json_request(
            {"sealed": b64(random_bytes(PREKEYS_BYTES))}, path={"id": b64(self.mailbox)}
        )

    def show_prekeys(self) -> ValidRequest:
        sealed = {"sealed": b64(random_bytes(PREKEYS_BYTES))}
        self.node.call(self.node.key, "PUT", f"/v1/mailboxes/{b64(self.mailbox)}/prekeys", sealed)
        now = int(time.time() * 1000)
        read = proof(self.send_key, "read", self.mailbox, now.to_bytes(8, "big"))
        headers = {"Sealpost-Proof": read, "Sealpost-Proof-Time": str(now)}
        return ValidRequest(path={"id": b64(self.mailbox)}, headers=headers)

    def submit_envelopes(self) -> ValidRequest:
        return json_request({"envelopes": [self.new_envelope(), self.new_envelope()]})

    def show_envelope(self) -> ValidRequest:
        return ValidRequest(path={"id": self.submit_envelope()})

    def query_envelope_statuses(self) -> ValidRequest:
        return json_request({"ids": [self.submit_envelope()]})

    def recall_envelope(self) -> ValidRequest:
        envelope_id = self.submit_envelope()
        recall = proof(self.send_key, "recall", self.mailbox, unb64(envelope_id))
        return ValidRequest(path={"id": envelope_id}, headers={"Sealpost-Proof": recall})

    def pull_deliveries(self) -> ValidRequest:
        self.submit_envelope()
        return ValidRequest()

    def acknowledge_deliveries(self) -> ValidRequest:
        self.submit_envelope()
        batch = self.node.call(self.node.session, "GET", "/v1/deliveries")
        results = [{"id": delivery["id"], "outcome": "stored"} for delivery in batch["deliveries"]]
        return json_request({"lease": batch["lease"], "results": results})

    def create_blob(self) -> ValidRequest:
        token_hash, expires_at = b64(random_bytes(32)), in_one_day()
        blob = {"size_bytes": 100, "fetch_token_hash": token_hash, "expires_at": expires_at}
        return json_request({"id": b64(random_bytes(16))} | blob)

    def show_blob(self) -> ValidRequest:
        return ValidRequest(path={"id": self.create_new_blob()[0]})

    def extend_blob(self) -> ValidRequest:
        return json_request({"expires_at": in_one_day() + 1}, path={"id": self.create_new_blob()[0]})

    def delete_blob(self) -> ValidRequest:
        return ValidRequest(path={"id": self.create_new_blob()[0]})

    def complete_blob(self) -> ValidRequest:
        return json_request({"digest": blob_digest()}, path={"id": self.create_new_blob(parts=1)[0]})

    def upload_part(self) -> ValidRequest:
        octets = {"Content-Type": "application/octet-stream"}
        return ValidRequest(path={"id": self.create_new_blob()[0], "number": "0"}, headers=octets, body=PART)

    def download_part(self) -> ValidRequest:
        blob_id, token = self.create_new_blob(parts=1, complete=True)
        return ValidRequest(
            path={"id": blob_id, "number": "0"}, headers={"Sealpost-Fetch-Token": b64(token)}
        )


def blob_digest() -> str:
    """Returns the digest of the blob with the single part `PART`."""
    return b64(digest(digest(PART)))


def in_one_day() -> int:
    return int(time.time() * 1000) + 86_400_000
