"""Sealed columns, key files and wrapped keys (docs/e2ee-files-invites-vault.md)."""

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


def unwrap(key, record):
    refuse_unless(record, "malformed")
    refuse_unless(record[0] == 1, "unknown_version")
    refuse_unless(len(record) >= 6 and record[1] in (1, 2, 3), "malformed")
    length = int.from_bytes(record[2:6], "big")
    refuse_unless(
        length == (28 if record[1] == 1 else 0) and len(record) == 6 + length + 72, "malformed"
    )
    refuse_unless(record[1] == 2, "other_wrap")
    head, sealed = record[: 6 + length], record[6 + length :]
    return open_sealed(key, sealed, b"Sealpost-1 wrap\x00" + head, "wrong_key_file")
