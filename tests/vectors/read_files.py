"""Opens the vectors of files, invites, safety numbers and the vault without code of the workspace.

The format is in docs/e2ee-files-invites-vault.md. Exits with 1 and prints a line for each difference.
Usage: python tests/vectors/read_files.py [folder of vectors]
"""

import base64
import hashlib
import hmac
import json
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as x_open
from nacl.exceptions import CryptoError

CHUNK, TAG, HEAD = 65_536, 16, 48
SEALED_CHUNK = CHUNK + TAG
PART = 32 * SEALED_CHUNK
FILE_MAX, BLOB_MAX = 100_000_000, 100_687_920


class Refused(Exception):
    """Refused input; the argument is the reason."""


def refuse_unless(condition, reason):
    if not condition:
        raise Refused(reason)


def reason_of(read, *arguments):
    try:
        read(*arguments)
    except Refused as refusal:
        return str(refusal)
    return None


# Bytes


def unbase64(text):
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if tobase64(data) != text:
        raise ValueError("not canonical")
    return data


def tobase64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sha256(data):
    return hashlib.sha256(data).digest()


def kdf(salt, ikm, info):
    """HKDF-SHA256 (RFC 5869), 32 bytes."""
    prk = hmac.digest(salt, ikm, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def lp(data):
    return len(data).to_bytes(4, "big") + data


# Blobs


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
    sealed = [cipher.encrypt(chunk_nonce(i, i + 1 == len(chunks)), chunk, b"") for i, chunk in enumerate(chunks)]
    return salt + kdf(salt, file_key, b"Sealpost-1 commit") + b"".join(sealed)


def parts_of(blob):
    first, rest = blob[: HEAD + PART], blob[HEAD + PART :]
    return [part for part in [first] + [rest[at : at + PART] for at in range(0, len(rest), PART)] if part]


def open_blob(file_key, ct_len, ct_hash, pt_len, parts):
    refuse_unless(pt_len <= FILE_MAX and ct_len <= BLOB_MAX and ct_len == blob_len(pt_len), "lengths")
    ct_left, pt_left, index, file, hashes = ct_len, pt_len, 0, b"", b""
    cipher = None
    for part in parts:
        expected = min(ct_left, PART + (HEAD if cipher is None else 0))
        refuse_unless(part and len(part) == expected, "part_length")
        ct_left -= len(part)
        hashes += sha256(part)
        if cipher is None:
            salt, commitment, part = part[:16], part[16:HEAD], part[HEAD:]
            refuse_unless(hmac.compare_digest(commitment, kdf(salt, file_key, b"Sealpost-1 commit")), "commitment")
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
    blob = bytearray(seal_blob(unbase64(base["file_key"]), unbase64(base["salt"]), plaintext(base["pt_len"])))
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


def attachments(vectors, check):
    for vector in vectors["padme"]:
        check("padme", padme(vector["length"]), vector["padded"])
    for vector in vectors["blobs"]:
        name, file = vector["name"], plaintext(vector["pt_len"])
        file_key, ct_hash = unbase64(vector["file_key"]), unbase64(vector["ct_hash"])
        blob = seal_blob(file_key, unbase64(vector["salt"]), file)
        parts = parts_of(blob)
        check(name, len(blob), vector["ct_len"])
        check(name, padded_len(len(file)), vector["padded_len"])
        check(name, [tobase64(sha256(part)) for part in parts], vector["parts"])
        check(name, tobase64(blob), vector.get("blob", tobase64(blob)))
        check(name, open_blob(file_key, vector["ct_len"], ct_hash, len(file), parts) == file, True)
    for vector in vectors["invalid"]:
        blob = unbase64(vector["blob"]) if "blob" in vector else edited_blob(vectors, vector["edited"])
        lengths = (vector["ct_len"], unbase64(vector["ct_hash"]), vector["pt_len"])
        reason = reason_of(open_blob, unbase64(vector["file_key"]), *lengths, parts_of(blob))
        check(vector["name"], reason, vector["reason"])


# Descriptors


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
NAMES = ["relay", "blob_id", "fetch_token", "file_key", "ct_len", "ct_hash", "pt_len", "file_name", "mime"]


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
    refuse_unless(pt_len <= FILE_MAX and ct_len <= BLOB_MAX and ct_len == blob_len(pt_len), "lengths")
    return entries


def descriptors(vectors, check):
    for vector in vectors["descriptors"]:
        entries = read_descriptor(unbase64(vector["cbor"]))
        for key, name in enumerate(NAMES):
            value = tobase64(entries[key]) if isinstance(entries[key], bytes) else entries[key]
            check(f"{vector['name']}, {name}", value, vector[name])
        preview = tobase64(entries[PREVIEW]) if PREVIEW in entries else None
        check(f"{vector['name']}, preview", preview, vector.get("preview"))
    for vector in vectors["invalid_descriptors"]:
        check(vector["name"], reason_of(read_descriptor, unbase64(vector["cbor"])), vector["reason"])


# Invites


def is_origin(text):
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?", text)
    default = {"https": "443", "http": "80"}
    return bool(match) and len(text) <= 100 and match[3] != default[match[1]]


def read_token(token):
    if token.startswith("sp1."):
        try:
            return unbase64(token[4:])
        except ValueError:
            raise Refused("damaged") from None
    refuse_unless(not "sp1.".startswith(token), "damaged")
    refuse_unless(not re.match(r"sp[0-9]+\.", token), "unknown_version")
    raise Refused("not_an_invite")


def read_invite(text):
    refuse_unless(len(text) <= 393, "not_an_invite")
    link, token = None, text.removeprefix("sealpost:")
    if token == text:
        page, _, token = text.partition("#")
        link = page.removesuffix("/i")
        refuse_unless(link != page and is_origin(link), "not_an_invite")
    record = read_token(token)
    refuse_unless(len(record) >= 4 and sha256(record[:-4])[:4] == record[-4:], "damaged")
    invite = read_record(record[:-4])
    refuse_unless(link in (None, invite["relay"]), "foreign_origin")
    return invite


def read_record(body):
    refuse_unless(body, "malformed")
    refuse_unless(body[0] == 1, "unknown_version")
    refuse_unless(len(body) >= 2, "malformed")
    refuse_unless(body[1] in (1, 2), "unknown_kind")
    length = int.from_bytes(body[2:6], "big")
    refuse_unless(len(body) == 6 + length + 16 + 16 + 32 + 32 + 8, "malformed")
    relay, rest = body[6 : 6 + length].decode(errors="replace"), body[6 + length :]
    refuse_unless(is_origin(relay), "malformed")
    kind, expiry = body[1], int.from_bytes(rest[96:], "big")
    refuse_unless((kind == 1) == (expiry > 0), "malformed")
    return {
        "kind": {1: "single_use", 2: "contact_address"}[kind],
        "relay": relay,
        "mailbox": tobase64(rest[:16]),
        "invite_id": tobase64(rest[16:32]),
        "secret": tobase64(rest[32:64]),
        "fingerprint": tobase64(rest[64:96]),
        "expiry": expiry,
        "send_key": tobase64(kdf(bytes(32), rest[32:64], b"Sealpost-1 invite-send")),
    }


def use_invite(link, now, own):
    invite = read_invite(link)
    refuse_unless(invite["fingerprint"] != own, "own")
    refuse_unless(invite["kind"] == "contact_address" or now < invite["expiry"], "expired")


def invites(vectors, check):
    for vector in vectors["valid"]:
        for form in ("link", "uri"):
            for name, value in read_invite(vector[form]).items():
                check(f"{vector['name']}, {name}", value, vector[name])
    for vector in vectors["invalid"]:
        check(vector["name"], reason_of(read_invite, vector["text"]), vector["reason"])
    for vector in vectors["refused"]:
        check(vector["name"], reason_of(use_invite, vector["link"], vector["now"], vector["own"]), vector["refusal"])


# Safety numbers


def half(version, identity, keys, iterations):
    data = hashlib.sha512(version.to_bytes(2, "big") + keys + identity + keys).digest()
    for _ in range(iterations - 1):
        data = hashlib.sha512(data + keys).digest()
    return "".join(f"{int.from_bytes(data[at : at + 5], 'big') % 100_000:05}" for at in range(0, 30, 5))


def compare_code(code, own, peer):
    shown_by, meant_for = code[:32], code[32:]
    refuse_unless(shown_by == peer or shown_by != own, "own_code")
    refuse_unless(shown_by == peer, "peer")
    refuse_unless(meant_for == own, "own")


def read_code(text):
    try:
        code = unbase64(text.removeprefix("sealpost:sn1."))
    except ValueError:
        raise Refused("malformed") from None
    refuse_unless(text.startswith("sealpost:sn1.") and len(code) == 64, "malformed")
    return code


def safety_numbers(vectors, check):
    for vector in vectors["signal"]:
        sides = [vector["one"], vector["other"]]
        halves = [(side["id"].encode(), bytes.fromhex(side["key"])) for side in sides]
        digits = "".join(sorted(half(vector["version"], *side, vector["iterations"]) for side in halves))
        check("signal", digits, vector["digits"])
    for vector in vectors["pairs"]:
        halves = []
        for side in (vector["one"], vector["other"]):
            keys, name = unbase64(side["ik_ed"]) + unbase64(side["ik_x"]), unbase64(side["fingerprint"])
            check("fingerprint", name, sha256(b"Sealpost-1 id" + keys))
            halves.append(half(0, name, keys, 5_200))
        digits = "".join(sorted(halves))
        check("digits", digits, vector["digits"])
        check("shown", " ".join(digits[at : at + 5] for at in range(0, 60, 5)), vector["shown"])
    for vector in vectors["codes"]:
        known = unbase64(vector["own"]), unbase64(vector["peer"])
        check(vector["name"], reason_of(compare_code, read_code(vector["code"]), *known), vector["mismatch"])
    for vector in vectors["invalid_codes"]:
        check(vector["name"], reason_of(read_code, vector["code"]), "malformed")


# Vault


def open_sealed(key, sealed, associated, reason):
    refuse_unless(len(sealed) >= 40, reason)
    try:
        return x_open(sealed[24:], associated, sealed[:24], key)
    except CryptoError:
        raise Refused(reason) from None


def open_column(vector):
    position = lp(vector["table"].encode()) + lp(unbase64(vector["pk"])) + lp(vector["column"].encode())
    associated = position + vector["version"].to_bytes(8, "big")
    return open_sealed(unbase64(vector["data_key"]), unbase64(vector["sealed"]), associated, "column")


def read_key_file(text):
    refuse_unless(len(text) <= 128 and text.strip().startswith("sealpost-key1."), "not_a_key_file")
    try:
        record = unbase64(text.strip().removeprefix("sealpost-key1."))
    except ValueError:
        raise Refused("damaged") from None
    body, checksum = record[:-4], record[-4:]
    refuse_unless(len(body) > 0 and sha256(body)[:4] == checksum, "damaged")
    refuse_unless(body[0] == 1, "unknown_version")
    refuse_unless(len(body) == 33, "damaged")
    return body[1:]


def unwrap(key, record):
    refuse_unless(record, "malformed")
    refuse_unless(record[0] == 1, "unknown_version")
    refuse_unless(len(record) >= 6 and record[1] in (1, 2, 3), "malformed")
    length = int.from_bytes(record[2:6], "big")
    refuse_unless(length == (28 if record[1] == 1 else 0) and len(record) == 6 + length + 72, "malformed")
    refuse_unless(record[1] == 2, "other_wrap")
    head, sealed = record[: 6 + length], record[6 + length :]
    return open_sealed(key, sealed, b"Sealpost-1 wrap\x00" + head, "wrong_key_file")


def vault(vectors, check):
    for vector in vectors["columns"]:
        check(vector["name"], open_column(vector), unbase64(vector["value"]))
    for vector in vectors["invalid_columns"]:
        check(vector["name"], reason_of(open_column, vector), "column")
    for text in vectors["key_files"]:
        check("key file", reason_of(read_key_file, text), None)
    for vector in vectors["invalid_key_files"]:
        check(vector["name"], reason_of(read_key_file, vector["text"]), vector["reason"])
    for vector in vectors["wrapped"]:
        data_key = unwrap(read_key_file(vector["key_file"]), unbase64(vector["record"]))
        check("wrapped", data_key, unbase64(vector["data_key"]))
    for vector in vectors["invalid_wrapped"]:
        reason = reason_of(unwrap, read_key_file(vector["key_file"]), unbase64(vector["record"]))
        check(vector["name"], reason, vector["reason"])


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "proto" / "vectors"
    checked, differing = 0, 0

    def read(file, *readers):
        vectors = json.loads((folder / file).read_text())

        def check(name, actual, expected):
            nonlocal checked, differing
            checked += 1
            if actual != expected:
                differing += 1
                print(f"{file}: {name}: read {actual!r}, expected {expected!r}", file=sys.stderr)

        for reader in readers:
            reader(vectors, check)

    read("attachment.json", attachments, descriptors)
    read("invite.json", invites)
    read("safety_number.json", safety_numbers)
    read("vault.json", vault)
    print(f"{checked} checks of files, invites, safety numbers and the vault, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
