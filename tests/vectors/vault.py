"""Sealed columns, key files and wrapped keys (docs/e2ee-files-invites-vault.md)."""

import struct

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from primitives import Refused, lp, refuse_unless, sha256, unbase64, x_open


def open_sealed(key, sealed, associated, reason):
    refuse_unless(len(sealed) >= 40, reason)
    return x_open(key, sealed[:24], sealed[24:], associated, reason)


def open_column(vector):
    position = (
        lp(vector["table"].encode()) + lp(unbase64(vector["pk"])) + lp(vector["column"].encode())
    )
    associated = position + vector["version"].to_bytes(8, "big")
    return open_sealed(
        unbase64(vector["data_key"]), unbase64(vector["sealed"]), associated, "column"
    )


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


def parse_wrapped(record, kind):
    """Returns the head of a record of one kind, its parameters and the sealed data key."""
    refuse_unless(record, "malformed")
    refuse_unless(record[0] == 1, "unknown_version")
    refuse_unless(len(record) >= 6 and record[1] in (1, 2, 3), "malformed")
    length = int.from_bytes(record[2:6], "big")
    refuse_unless(
        length == (28 if record[1] == 1 else 0) and len(record) == 6 + length + 72, "malformed"
    )
    refuse_unless(record[1] == kind, "other_wrap")
    return record[: 6 + length], record[6 : 6 + length], record[6 + length :]


def unwrap(key, record, kind=2, reason="wrong_key_file"):
    head, _, sealed = parse_wrapped(record, kind)
    return open_sealed(key, sealed, b"Sealpost-1 wrap\x00" + head, reason)


def unwrap_as_credential(key, record):
    return unwrap(key, record, 3, "wrong_credential")


def unwrap_with_passphrase(passphrase, record):
    _, parameters, _ = parse_wrapped(record, 1)
    memory, passes, lanes = struct.unpack(">III", parameters[16:])
    refuse_unless(
        1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= 262_144, "parameters"
    )
    argon2id = Argon2id(
        salt=parameters[:16], length=32, iterations=passes, lanes=lanes, memory_cost=memory
    )
    return unwrap(argon2id.derive(passphrase.encode()), record, 1, "wrong_passphrase")
