"""Blobs and descriptors of attachments (docs/e2ee-files-invites-vault.md)."""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from invites import is_origin
from primitives import Refused, kdf, refuse_unless, sha256, unbase64

CHUNK, TAG, HEAD = 65_536, 16, 48
SEALED_CHUNK = CHUNK + TAG
PART = 32 * SEALED_CHUNK
FILE_MAX, BLOB_MAX = 100_000_000, 100_687_920


def padme(length):
    if length < 2:
        return length
    e = length.bit_length() - 1
    s = e.bit_length()
    mask = (1 << (e - s)) - 1
    return (length + mask) & ~mask


def padded_len(pt_len):
    return padme(max(pt_len, 4096))


def blob_len(pt_len):
    padded = padded_len(pt_len)
    return HEAD + padded + -(-padded // CHUNK) * TAG


def plaintext(pt_len):
    return (bytes(range(1, 252)) * (pt_len // 251 + 1))[:pt_len]


def chunk_nonce(index, last):
    return index.to_bytes(11, "big") + bytes([last])


def seal_blob(file_key, salt, file):
    padded = file + bytes(padded_len(len(file)) - len(file))
    cipher = ChaCha20Poly1305(kdf(salt, file_key, b"payload"))
    chunks = [padded[at : at + CHUNK] for at in range(0, len(padded), CHUNK)]
    sealed = [
        cipher.encrypt(chunk_nonce(i, i + 1 == len(chunks)), chunk, b"")
        for i, chunk in enumerate(chunks)
    ]
    return salt + kdf(salt, file_key, b"Sealpost-1 commit") + b"".join(sealed)


def parts_of(blob):
    first, rest = blob[: HEAD + PART], blob[HEAD + PART :]
    return [
        part
        for part in [first] + [rest[at : at + PART] for at in range(0, len(rest), PART)]
        if part
    ]


def open_blob(file_key, ct_len, ct_hash, pt_len, parts):
    refuse_unless(
        pt_len <= FILE_MAX and ct_len <= BLOB_MAX and ct_len == blob_len(pt_len), "lengths"
    )
    ct_left, pt_left, index, file, hashes = ct_len, pt_len, 0, b"", b""
    cipher = None
    for part in parts:
        expected = min(ct_left, PART + (HEAD if cipher is None else 0))
        refuse_unless(part and len(part) == expected, "part_length")
        ct_left -= len(part)
        hashes += sha256(part)
        if cipher is None:
            salt, commitment, part = part[:16], part[16:HEAD], part[HEAD:]
            refuse_unless(
                hmac.compare_digest(commitment, kdf(salt, file_key, b"Sealpost-1 commit")),
                "commitment",
            )
            cipher = ChaCha20Poly1305(kdf(salt, file_key, b"payload"))
        for at in range(0, len(part), SEALED_CHUNK):
            last = ct_left == 0 and at + SEALED_CHUNK >= len(part)
            try:
                chunk = cipher.decrypt(chunk_nonce(index, last), part[at : at + SEALED_CHUNK], b"")
            except InvalidTag:
                raise Refused("chunk") from None
            index += 1
            used = min(pt_left, len(chunk))
            refuse_unless(not any(chunk[used:]), "padding")
            file += chunk[:used]
            pt_left -= used
    refuse_unless(ct_left == 0, "truncated")
    refuse_unless(sha256(hashes) == ct_hash, "hash")
    return file


def edited_blob(vectors, edited):
    base = next(vector for vector in vectors["blobs"] if vector["pt_len"] == edited["of_pt_len"])
    blob = bytearray(
        seal_blob(unbase64(base["file_key"]), unbase64(base["salt"]), plaintext(base["pt_len"]))
    )
    for edit, value in edited["edit"].items():
        if edit == "cut":
            del blob[value:]
        elif edit == "append":
            blob += unbase64(value)
        else:
            a, b, length = value
            first, second = bytes(blob[a : a + length]), bytes(blob[b : b + length])
            blob[b : b + length] = first
            if edit == "swap":
                blob[a : a + length] = second
    return bytes(blob)


class Cbor:
    """Reader for the subset of RFC 8949 that descriptors use."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        refuse_unless(self.at + length <= len(self.data), "malformed")
        self.at += length
        return self.data[self.at - length : self.at]

    def head(self):
        initial = self.take(1)[0]
        major, argument = initial >> 5, initial & 31
        if argument < 24:
            return major, argument
        refuse_unless(argument < 28, "malformed")
        return major, int.from_bytes(self.take(1 << (argument - 24)), "big")

    def item(self):
        major, argument = self.head()
        if major in (2, 3):
            data = self.take(argument)
            try:
                return data if major == 2 else data.decode()
            except UnicodeDecodeError:
                raise Refused("malformed") from None
        if major == 4:
            return [self.item() for _ in range(argument)]
        refuse_unless(major == 0, "malformed")
        return argument

    def map(self):
        major, count = self.head()
        refuse_unless(major == 5 and count <= 32, "malformed")
        entries = []
        for _ in range(count):
            key = self.item()
            refuse_unless(not entries or entries[-1][0] < key, "malformed")
            entries.append((key, self.item()))
            check_entry(*entries[-1])
        return dict(entries)


SHAPES = {0: str, 1: 16, 2: 32, 3: 32, 4: int, 5: 32, 6: int, 7: str, 8: str}
PREVIEW = 9
NAMES = [
    "relay",
    "blob_id",
    "fetch_token",
    "file_key",
    "ct_len",
    "ct_hash",
    "pt_len",
    "file_name",
    "mime",
]


def check_entry(key, value):
    shape = SHAPES.get(key)
    if isinstance(shape, int):
        refuse_unless(isinstance(value, bytes) and len(value) == shape, "malformed")
    elif shape:
        refuse_unless(isinstance(value, shape), "malformed")
    refuse_unless(key != PREVIEW or isinstance(value, bytes), "malformed")
    refuse_unless(key != 0 or is_origin(value), "relay")
    refuse_unless(key != 7 or 1 <= len(value.encode()) <= 255, "name")
    refuse_unless(key != 8 or len(value.encode()) <= 127, "mime")
    refuse_unless(key != PREVIEW or 1 <= len(value) <= 16_384, "preview")


def read_descriptor(data):
    entries = Cbor(data).map()
    refuse_unless(all(key in entries for key in SHAPES), "missing")
    ct_len, pt_len = entries[4], entries[6]
    refuse_unless(
        pt_len <= FILE_MAX and ct_len <= BLOB_MAX and ct_len == blob_len(pt_len), "lengths"
    )
    return entries
