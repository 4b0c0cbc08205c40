"""Byte encodings and cryptographic primitives shared by the readers of the vectors."""

import base64
import hashlib
import hmac
import re
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as x_open_raw
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import VerifyKey

ZEROS = bytes(32)
DAY_MS = 86_400_000


class Refused(Exception):
    """Refused input; the argument is the reason."""


def refuse_unless(condition, reason="malformed"):
    if not condition:
        raise Refused(reason)


def reason_of(read, *arguments):
    try:
        read(*arguments)
    except Refused as refusal:
        return str(refusal)
    return None


def unbase64(text):
    """Decodes base64url; only the canonical encoding is valid."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if tobase64(data) != text:
        raise ValueError("not canonical")
    return data


def tobase64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def label(name):
    return b"Sealpost-1 " + name


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def kdf(salt, ikm, info, length=32):
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(ikm)


def x_open(key, nonce, sealed, ad, reason):
    try:
        return x_open_raw(sealed, ad, nonce, key)
    except (CryptoError, ValueError) as error:
        raise Refused(reason) from error


def dh(secret, public, reason="handshake_invalid"):
    try:
        shared = crypto_scalarmult(secret, public)
    except (CryptoError, RuntimeError) as error:
        raise Refused(reason) from error
    refuse_unless(any(shared), reason)
    return shared


def lp(data):
    return struct.pack(">I", len(data)) + data


class Reader:
    """Reads a record from front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        refuse_unless(self.at + length <= len(self.data))
        self.at += length
        return self.data[self.at - length : self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def u64(self):
        return struct.unpack(">Q", self.take(8))[0]

    def lp(self):
        return self.take(self.u32())

    def opt(self, read):
        flag = self.u8()
        refuse_unless(flag <= 1)
        return read() if flag else None

    def list(self, read):
        return [read() for _ in range(self.u32())]

    def rest(self):
        return self.data[self.at :]

    def end(self):
        refuse_unless(self.at == len(self.data))


def verify(ik_ed, name, record, signature):
    try:
        VerifyKey(ik_ed).verify(label(name) + b"\0" + record, signature)
    except (BadSignatureError, ValueError) as error:
        raise Refused("signature") from error
