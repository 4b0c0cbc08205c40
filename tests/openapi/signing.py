"""Request signatures and proofs, implemented from docs/protocol.md, not from the relay's code."""

import base64
import hashlib
import hmac
import os
import time

COVERED = '("@method" "@authority" "@path" "@query" "content-digest")'
LIFETIME_SECONDS = 60


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def random_bytes(count: int) -> bytes:
    return os.urandom(count)


def digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


def proof(key: bytes, purpose: str, *pieces: bytes) -> str:
    message = f"Sealpost-1 {purpose}".encode() + b"".join(pieces)
    return b64(hmac.digest(key, message, "sha256")[:16])


class AccountKey:
    """Ed25519 key pair of an account."""

    def __init__(self):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self.private = Ed25519PrivateKey.generate()
        self.id = b64(self.private.public_key().public_bytes_raw())
        self.parameters = f'keyid="{self.id}";alg="ed25519"'

    def sign(self, base: bytes) -> bytes:
        return self.private.sign(base)


class SessionKey:
    """Key of a session."""

    def __init__(self, session: dict):
        self.key = unb64(session["key"])
        self.parameters = f'keyid="{session["session_id"]}";alg="hmac-sha256"'

    def sign(self, base: bytes) -> bytes:
        return hmac.digest(self.key, base, "sha256")


def signed(
    key: AccountKey | SessionKey, authority: str, method: str, target: str, body: bytes
) -> dict[str, str]:
    """Returns the headers that sign a request."""
    path, _, query = target.partition("?")
    content_digest = f"sha-256=:{base64.b64encode(digest(body)).decode()}:"
    now = int(time.time())
    parameters = f";created={now};expires={now + LIFETIME_SECONDS};{key.parameters}"
    parameters += f';nonce="{b64(random_bytes(16))}";tag="sealpost"'
    lines = [
        f'"@method": {method}',
        f'"@authority": {authority}',
        f'"@path": {path}',
        f'"@query": ?{query}',
        f'"content-digest": {content_digest}',
        f'"@signature-params": {COVERED}{parameters}',
    ]
    signature = base64.b64encode(key.sign("\n".join(lines).encode())).decode()
    return {
        "Content-Digest": content_digest,
        "Signature-Input": f"sig={COVERED}{parameters}",
        "Signature": f"sig=:{signature}:",
    }
