"""Envelopes, plaintext records and payloads (docs/e2ee.md)."""

import base64

from primitives import ZEROS, Reader, Refused, kdf, label, refuse_unless, unbase64, x_open

BODY_MAX = 240 * 1024


def padded_len(length):
    if length <= 65_536:
        size = max(2_048, 1 << (length - 1).bit_length())
    else:
        exponent = length.bit_length() - 1
        mask = (1 << (exponent - exponent.bit_length())) - 1
        size = (length + mask) & ~mask
    return size if size <= 262_144 else None


def open_envelope(key_of, mailbox, envelope):
    refuse_unless(2_048 <= len(envelope) <= 262_144)
    if "invite_secret" in key_of:
        key = kdf(ZEROS, unbase64(key_of["invite_secret"]), label(b"rendezvous"))
    else:
        key = kdf(
            ZEROS, unbase64(key_of["exp_pairing"]), label(b"mailbox") + bytes([key_of["dir"]])
        )
    reader = Reader(x_open(key, envelope[:24], envelope[24:], label(b"m") + mailbox, "sealed"))
    inner = reader.lp()
    refuse_unless(padded_len(44 + len(inner)) == len(envelope) and not any(reader.rest()))
    return inner


def read_record(record):
    reader = Reader(record)
    refuse_unless(reader.u8() == 1)
    fields = {"kind": reader.u16(), "message_id": reader.take(16), "incarnation": reader.take(8)}
    fields |= {"seq": reader.u64(), "sent": reader.u64(), "body": reader.lp()}
    reader.end()
    refuse_unless(len(fields["body"]) <= BODY_MAX)
    return fields


def read_cbor(reader):
    """Reads one item of definite length; byte strings become {"bytes"}, maps {"map"}."""
    major, short = divmod(reader.u8(), 32)
    if major == 7:
        refuse_unless(short in (20, 21))
        return short == 21
    refuse_unless(short <= 27)
    value = short if short < 24 else int.from_bytes(reader.take(1 << (short - 24)), "big")
    if major == 0:
        return value
    if major == 2:
        return {"bytes": reader.take(value)}
    if major == 3:
        try:
            return reader.take(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused("text") from error
    refuse_unless(major in (4, 5) and value <= len(reader.data))
    if major == 4:
        return [read_cbor(reader) for _ in range(value)]
    return {"map": read_entries(reader, value)}


def read_entries(reader, count):
    refuse_unless(count <= 32)
    entries, last = {}, -1
    for _ in range(count):
        key = read_cbor(reader)
        refuse_unless(type(key) is int and key > last)
        entries[str(key)], last = read_cbor(reader), key
    return entries


def number(item, below=1 << 64):
    refuse_unless(type(item) is int and item < below)


def flag(item):
    refuse_unless(type(item) is bool)


def u8(item):
    number(item, 256)


def raw(exactly=None, at_most=None):
    def check(item):
        refuse_unless(isinstance(item, dict) and "bytes" in item)
        length = len(item["bytes"])
        refuse_unless(length == exactly if exactly is not None else length <= at_most)

    return check


def text(at_most):
    return lambda item: refuse_unless(isinstance(item, str) and len(item.encode()) <= at_most)


def many(at_most, check):
    def check_all(item):
        refuse_unless(isinstance(item, list) and len(item) <= at_most)
        for one in item:
            check(one)

    return check_all


def entries_of(**known):
    """Returns a check for a map; `k0` means that key 0 is required, `o0` that it is optional."""

    def check(item):
        refuse_unless(isinstance(item, dict) and "map" in item)
        for name, check_entry in known.items():
            if name[1:] in item["map"]:
                check_entry(item["map"][name[1:]])
            else:
                refuse_unless(name[0] == "o", "missing")

    return check


def origin(item):
    text(100)(item)
    scheme, _, rest = item.partition("://")
    refuse_unless(scheme in ("http", "https") and rest and rest == rest.lower() and "/" not in rest)


ID, F32 = raw(16), raw(32)
CAPABILITY = entries_of(k0=origin, k1=ID, k2=F32)
RESUME = entries_of(k0=raw(8), k1=number, k2=raw(at_most=128))
LINK = entries_of(**{f"o{key}": text(2_048) for key in range(4)})
PAYLOADS = {
    "message": entries_of(
        o0=ID,
        o1=entries_of(k0=text(64), o1=F32),
        k2=text(65_536),
        k3=u8,
        o4=many(5, entries_of(k0=origin)),
        o5=many(64, LINK),
        o6=ID,
        o7=flag,
        o8=number,
        o9=number,
    ),
    "edit": entries_of(k0=ID, k1=text(65_536), k2=u8),
    "retract": entries_of(k0=ID),
    "reaction": entries_of(k0=ID, k1=text(64), o2=flag),
    "receipt": entries_of(k0=u8, o1=many(64, ID), k2=number),
    "chat": entries_of(k0=ID, k1=u8, o2=u8, o3=text(200), o4=text(2_048), o5=many(256, text(64))),
    "profile": entries_of(o0=raw(at_most=512), o1=F32, o2=raw(at_most=512)),
    "connection_request": entries_of(k0=CAPABILITY, o1=text(200)),
    "connection_accept": entries_of(k0=CAPABILITY),
    "connection_reject": entries_of(o0=text(200)),
    "connection_moved": entries_of(k0=CAPABILITY),
    "resend": entries_of(
        o0=many(64, ID),
        o1=RESUME,
        o2=entries_of(k0=raw(8), o1=many(1_024, number)),
        o3=entries_of(k0=ID, k1=ID),
    ),
    "probe": entries_of(k0=ID, o1=flag),
}


def read_payload(kind, body):
    reader = Reader(body)
    item = read_cbor(reader)
    reader.end()
    PAYLOADS[kind](item)
    return item["map"]


def as_json(item):
    if isinstance(item, dict) and "bytes" in item:
        return {"bytes": base64.urlsafe_b64encode(item["bytes"]).rstrip(b"=").decode()}
    if isinstance(item, dict):
        return {key: as_json(value) for key, value in item.items()}
    return [as_json(value) for value in item] if isinstance(item, list) else item
