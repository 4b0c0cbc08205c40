"""Opens the vectors of cards, prekeys, handshake, ratchet, envelope and plaintext without any code of the workspace.

What it does is in docs/e2ee.md; it takes ML-KEM's shared secret from the vector. Exits with 1 and a line for each
difference. Usage: python tests/vectors/read_vectors.py [folder of vectors]
"""

import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as x_open_raw,
    crypto_core_ed25519_is_valid_point,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import VerifyKey

ZEROS = bytes(32)
BODY_MAX = 240 * 1024
DAY_MS = 86_400_000


class Refused(Exception):
    """What was read is refused; the argument is the reason."""


def refuse_unless(holds, reason="malformed"):
    if not holds:
        raise Refused(reason)


# Bytes and primitives


def un64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def label(word):
    return b"Sealpost-1 " + word


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
    """Reads a record front to back."""

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


def verify(ik_ed, word, record, signature):
    try:
        VerifyKey(ik_ed).verify(label(word) + b"\0" + record, signature)
    except (BadSignatureError, ValueError) as error:
        raise Refused("signature") from error


# Keys


def identity(seeds):
    """Both secrets and both public keys of an identity."""
    ed, x = un64(seeds["ed_seed"]), un64(seeds["x_seed"])
    ik_ed = Ed25519PrivateKey.from_private_bytes(ed).public_key().public_bytes_raw()
    return {"x": x, "ik_ed": ik_ed, "ik_x": crypto_scalarmult_base(x)}


def fingerprint(keys):
    return sha256(label(b"id"), keys["ik_ed"], keys["ik_x"])


def conn_id(a, b, invite_id):
    return sha256(label(b"conn"), min(a, b), max(a, b), invite_id)


def read_card(signed):
    refuse_unless(len(signed) >= 64)
    record, signature = signed[:-64], signed[-64:]
    reader = Reader(record)
    refuse_unless(reader.u8() == 1)
    try:
        name = reader.lp().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("name") from error
    refuse_unless(1 <= len(name.encode()) <= 64 and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name), "name")
    card = {"name": name, "ik_ed": reader.take(32), "ik_x": reader.take(32), "created": reader.u64()}
    reader.end()
    refuse_unless(crypto_core_ed25519_is_valid_point(card["ik_ed"]), "weak key")
    verify(card["ik_ed"], b"card", record, signature)
    return card


# Prekeys


def read_base(signed, owner_ik_ed, scope):
    refuse_unless(len(signed) == 1_349)
    record = signed[:-64]
    reader = Reader(record)
    refuse_unless(reader.u8() == 1)
    base = {"scope": reader.take(32), "incarnation": reader.take(8), "epoch": reader.u64()}
    base |= {"not_before": reader.u64(), "not_after": reader.u64(), "spk_id": reader.u32()}
    base |= {"spk": reader.take(32), "pqspk": reader.take(1_184)}
    packed = base["pqspk"]
    for at in range(0, 1_152, 3):
        low, middle, high = packed[at : at + 3]
        refuse_unless(low | (middle & 15) << 8 < 3_329 and middle >> 4 | high << 4 < 3_329)
    verify(owner_ik_ed, b"prekeys", record, signed[-64:])
    refuse_unless(base["scope"] == scope, "scope")
    return base


def freshness(base, now, last_epoch):
    if now > base["not_after"]:
        return "expired"
    if now + 2 * DAY_MS < base["not_before"]:
        return "early"
    return "replayed" if base["epoch"] < last_epoch else "fresh"


def read_secrets(stored):
    reader = Reader(stored)
    refuse_unless(reader.u8() == 1)
    base, spk, seed = reader.lp(), reader.take(32), reader.take(64)
    reader.end()
    refuse_unless(crypto_scalarmult_base(spk) == base[69:101])
    return {"base": base, "spk": spk, "seed": seed}


def relay_prekeys(vector):
    sealed = un64(vector["sealed"])
    refuse_unless(len(sealed) == 2_048)
    of_invite = "invite_secret" in vector
    secret = un64(vector["invite_secret"] if of_invite else vector["exp_pairing"])
    key = kdf(ZEROS, secret, label(b"prekeys") + bytes([0 if of_invite else vector["dir"]]))
    reader = Reader(x_open(key, sealed[:24], sealed[24:], un64(vector["mailbox"]), "sealed"))
    card = reader.lp() if of_invite else None
    base = reader.lp()
    refuse_unless(not any(reader.rest()))
    if card:
        read_card(card)
    return card, base


# Handshake


def read_prefix(init):
    reader = Reader(init)
    refuse_unless(reader.take(5) == bytes([1, 1, 0, 1, 0]))
    prefix = {"ek": reader.take(32), "session_epoch": reader.u64(), "base_epoch": reader.u64(), "spk_id": reader.u32()}
    prefix |= {"f_a": reader.take(8), "f_b": reader.take(8), "ct": reader.take(1_088)}
    for field in ("sealed", "hello"):
        length = reader.u32()
        prefix[field + "_ad"] = init[: reader.at]
        prefix[field] = reader.take(length)
    prefix["raw"] = init[: reader.at]
    return prefix, reader.rest()


def answer(me, secrets, ss, prefix, name_connection, peer=None):
    """B's side of the handshake; the card says who A is when the prefix does not."""
    base = secrets["base"]
    has_card = bool(prefix["sealed"])
    f_a = bytes(8) if has_card else fingerprint(peer)[:8]
    refuse_unless(prefix["f_a"] == f_a and prefix["f_b"] == fingerprint(me)[:8], "handshake_invalid")
    named = (prefix["base_epoch"], prefix["spk_id"])
    refuse_unless(named == struct.unpack(">Q", base[41:49]) + struct.unpack(">I", base[65:69]), "base_not_held")
    dh3 = dh(secrets["spk"], prefix["ek"])
    card = None
    if has_card:
        static = kdf(ZEROS, dh3 + ss, label(b"static"))
        card = x_open(static, bytes(24), prefix["sealed"], prefix["sealed_ad"], "handshake_invalid")
        peer = read_card(card)
    dh1, dh2 = dh(secrets["spk"], peer["ik_x"]), dh(me["x"], prefix["ek"])
    info = b"Sealpost-1_CURVE25519_SHA-256_ML-KEM-768"
    okm = kdf(ZEROS, b"\xff" * 32 + dh1 + dh2 + dh3 + ss, info, 128)
    root, header_a, header_b, exp = (okm[at : at + 32] for at in range(0, 128, 32))
    epoch = struct.pack(">Q", prefix["session_epoch"])
    connection = name_connection(peer)
    th = sha256(
        label(b"th"), b"\0\1", connection, fingerprint(peer), fingerprint(me), epoch, prefix["ek"], lp(base), prefix["ct"]
    )
    hello = x_open(kdf(ZEROS, exp, label(b"hello")), bytes(24), prefix["hello"], prefix["hello_ad"], "handshake_invalid")
    ratchet = {"rk": root, "own": secrets["spk"], "dhr": None, "sending": None, "nhks": header_b, "pn": 0, "nhkr": header_a}
    ratchet |= {"chains": [], "tombstones": []}
    return {
        "card": card,
        "exp": exp,
        "th": th,
        "ad": b"\5" + peer["ik_x"] + b"\5" + me["ik_x"] + th,
        "session_id": sha256(label(b"sid"), th)[:16],
        "hello": read_hello(hello),
        "ratchet": ratchet,
    }


def read_hello(data):
    reader = Reader(data)
    hello = {"incarnation": reader.take(8), "reason": reader.u8(), "resume": reader.lp()}
    hello |= {"previous": reader.take(16), "tag": reader.take(32)}
    reader.end()
    return hello


# Ratchet


def kdf_chain(chain_key):
    return mac(chain_key, b"\1"), mac(chain_key, b"\2")


def open_header(key, nonce, sealed):
    try:
        header = Reader(x_open(key, nonce, sealed, b"\1\2", "header"))
    except Refused:
        return None
    return {"dh": header.take(32), "pn": header.u32(), "n": header.u32()}


def skip_to(chain, until):
    refuse_unless(until - chain["head"]["n"] <= 1_000, "gap_too_large")
    while chain["head"]["n"] < until:
        key, chain["head"]["ck"] = kdf_chain(chain["head"]["ck"])
        chain["skipped"][chain["head"]["n"]] = key
        chain["head"]["n"] += 1


def step(ratchet, header):
    refuse_unless(ratchet["dhr"] is None or ratchet["sending"] is not None, "header_refused")
    refuse_unless(header["dh"] != ratchet["dhr"], "header_refused")
    shared = dh(ratchet["own"], header["dh"], "header_refused")
    if ratchet["chains"]:
        skip_to(ratchet["chains"][-1], header["pn"])
        ratchet["chains"][-1]["head"] = None
    okm = kdf(ratchet["rk"], shared, label(b"root"), 96)
    chain = {"hk": ratchet["nhkr"], "dh": header["dh"], "head": {"ck": okm[32:64], "n": 0}, "skipped": {}}
    ratchet["rk"], ratchet["nhkr"], ratchet["dhr"] = okm[:32], okm[64:], header["dh"]
    ratchet["pn"] = ratchet["sending"]["n"] if ratchet["sending"] else 0
    ratchet["sending"] = None
    ratchet["chains"].append(chain)
    return chain


def message_key(chain, header):
    refuse_unless(chain["dh"] == header["dh"], "header_refused")
    if header["n"] in chain["skipped"]:
        return chain["skipped"].pop(header["n"])
    refuse_unless(chain["head"] and header["n"] >= chain["head"]["n"], "consumed")
    skip_to(chain, header["n"])
    key, chain["head"]["ck"] = kdf_chain(chain["head"]["ck"])
    chain["head"]["n"] += 1
    return key


def copy_of(ratchet):
    copied = {field: value.copy() if isinstance(value, dict) else value for field, value in ratchet.items()}
    copied["chains"] = [
        chain | {"skipped": chain["skipped"].copy(), "head": chain["head"] and chain["head"].copy()}
        for chain in ratchet["chains"]
    ]
    return copied


def open_msg(ratchet, ad, msg):
    """The ratchet after the message, and its record. The one before is unchanged."""
    refuse_unless(len(msg) >= 98 and msg[:2] == b"\1\2")
    nonce, sealed_header, body = msg[2:26], msg[26:82], msg[82:]
    ratchet = copy_of(ratchet)
    growing = [chain for chain in ratchet["chains"] if chain["head"]]
    old = [chain for chain in reversed(ratchet["chains"]) if not chain["head"]]
    for chain in growing + [None] + old:
        header = open_header(chain["hk"] if chain else ratchet["nhkr"], nonce, sealed_header)
        if header:
            key = message_key(chain or step(ratchet, header), header)
            body_key = kdf(ZEROS, key, label(b"msg"))
            return ratchet, x_open(body_key, nonce, body, ad + msg[:82], "body_invalid")
    raise Refused("no_header_key")


# Sessions as they are stored


def read_receiver(reader):
    def chain():
        fields = {"hk": reader.take(32), "dh": reader.take(32)}
        fields["head"] = reader.opt(lambda: {"ck": reader.take(32), "n": reader.u32()})
        fields["skipped"] = dict(reader.list(lambda: (reader.u32(), reader.take(32))))
        return fields

    chains = reader.list(chain)
    return {"chains": chains, "tombstones": reader.list(lambda: (reader.take(32), reader.u32(), reader.u32()))}


def read_ratchet(reader):
    ratchet = {"rk": reader.take(32), "own": reader.take(32), "dhr": reader.opt(lambda: reader.take(32))}
    ratchet["sending"] = reader.opt(lambda: {"dh": reader.take(32), "hk": reader.take(32), "ck": reader.take(32), "n": reader.u32()})
    refuse_unless(ratchet["sending"] is None or ratchet["sending"]["dh"] == crypto_scalarmult_base(ratchet["own"]))
    ratchet |= {"nhks": reader.take(32), "pn": reader.u32(), "nhkr": reader.take(32)}
    return ratchet | read_receiver(reader)


def read_current(reader):
    current = {"id": reader.take(16), "epoch": reader.u64(), "started": reader.u64(), "ad": reader.take(98)}
    current |= {"exp": reader.take(32), "prefix_hash": reader.opt(lambda: reader.take(32)), "stage": reader.u8()}
    refuse_unless(current["stage"] <= 2)
    current["prefix"] = reader.lp() if current["stage"] == 0 else None
    return current | {"sealed": reader.u64(), "opened": reader.u64(), "ratchet": read_ratchet(reader)}


def read_old(reader):
    old = {"id": reader.take(16), "prefix_hash": reader.opt(lambda: reader.take(32)), "ad": reader.take(98)}
    return old | {"until": reader.u64(), "receiver": read_receiver(reader)}


def read_sessions(stored):
    reader = Reader(stored)
    refuse_unless(reader.u8() == 1)
    sessions = {"last": reader.u64(), "m": reader.u64(), "m_id": reader.opt(lambda: reader.take(16))}
    sessions["confirmed"] = reader.list(lambda: (reader.take(16), reader.take(32)))
    sessions["current"] = reader.opt(lambda: read_current(reader))
    sessions["old"] = reader.list(lambda: read_old(reader))
    sessions |= {"ids": reader.list(lambda: reader.take(16)), "prefixes": reader.list(lambda: reader.take(32))}
    reader.end()
    return sessions


# Envelope


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
        key = kdf(ZEROS, un64(key_of["invite_secret"]), label(b"rendezvous"))
    else:
        key = kdf(ZEROS, un64(key_of["exp_pairing"]), label(b"mailbox") + bytes([key_of["dir"]]))
    reader = Reader(x_open(key, envelope[:24], envelope[24:], label(b"m") + mailbox, "sealed"))
    inner = reader.lp()
    refuse_unless(padded_len(44 + len(inner)) == len(envelope) and not any(reader.rest()))
    return inner


# Plaintext and payloads


def read_record(record):
    reader = Reader(record)
    refuse_unless(reader.u8() == 1)
    fields = {"kind": reader.u16(), "message_id": reader.take(16), "incarnation": reader.take(8)}
    fields |= {"seq": reader.u64(), "sent": reader.u64(), "body": reader.lp()}
    reader.end()
    refuse_unless(len(fields["body"]) <= BODY_MAX)
    return fields


def read_cbor(reader):
    """One item of definite length: byte strings as {"bytes"}, maps as {"map"}."""
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
    """A map: `k0` must be there, `o0` may be there."""

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
        o0=ID, o1=entries_of(k0=text(64), o1=F32), k2=text(65_536), k3=u8, o4=many(5, entries_of(k0=origin)),
        o5=many(64, LINK), o6=ID, o7=flag, o8=number, o9=number,
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
        o0=many(64, ID), o1=RESUME, o2=entries_of(k0=raw(8), o1=many(1_024, number)), o3=entries_of(k0=ID, k1=ID)
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


# The vectors


class Comparison:
    """Counts what was compared, and keeps a line for each difference."""

    def __init__(self):
        self.compared, self.differences = 0, []

    def same(self, what, found, expected):
        self.compared += 1
        if found != expected:
            self.differences.append(f"{what}: found {found!r:.120}, expected {expected!r:.120}")

    def refused(self, what, read, *arguments, why=None):
        try:
            read(*arguments)
            reason = None
        except Refused as refusal:
            reason = str(refusal)
        self.compared += 1
        if reason is None or why not in (None, reason):
            self.differences.append(f"{what}: refused as {reason}, expected {why or 'any reason'}")


def cards(vectors, compare):
    for vector in vectors["valid"]:
        card, keys = read_card(un64(vector["card"])), identity(vector["seeds"])
        compare.same("card name", (card["name"], card["created"]), (vector["name"], vector["created"]))
        for field in ("ik_ed", "ik_x"):
            compare.same(field, (card[field], keys[field]), (un64(vector[field]),) * 2)
        compare.same("fingerprint", fingerprint(card), un64(vector["fingerprint"]))
    for vector in vectors["invalid"]:
        compare.refused(f"card, {vector['name']}", read_card, un64(vector["card"]))
    for vector in vectors["connections"]:
        a, b = map(un64, vector["fingerprints"])
        compare.same("conn_id", conn_id(b, a, un64(vector["invite_id"])), un64(vector["conn_id"]))


def prekeys(vectors, compare):
    owner = identity(vectors["owner"])["ik_ed"]
    bases = []
    for vector in vectors["valid"]:
        of = vector["scope_of"]
        scope = un64(of["conn_id"]) if "conn_id" in of else sha256(label(b"invite"), un64(of["invite_id"]))
        base = read_base(un64(vector["base"]), owner, scope)
        for field in ("epoch", "spk_id", "not_before", "not_after"):
            compare.same(field, base[field], vector[field])
        compare.same("incarnation", base["incarnation"], un64(vector["incarnation"]))
        compare.same("secrets", read_secrets(un64(vector["secrets"]))["base"], un64(vector["base"]))
        bases.append(base)
    for vector in vectors["invalid"]:
        compare.refused(f"base, {vector['name']}", read_base, un64(vector["base"]), owner, bases[0]["scope"])
    for vector in vectors["freshness"]:
        found = freshness(bases[vector["base"]], vector["now"], vector["last_epoch"])
        compare.same("freshness", found, vector["outcome"])
    for vector in vectors["relay"]["valid"]:
        card = un64(vector["card"]) if "card" in vector else None
        compare.same("prekeys at the relay", relay_prekeys(vector), (card, un64(vector["base"])))
    for vector in vectors["relay"]["invalid"]:
        compare.refused(f"prekeys at the relay, {vector['name']}", relay_prekeys, vector)


def open_init(vector, inner, now):
    """The session an INIT opens, and the record of its message."""
    refuse_unless(inner[:8] == bytes(8) and len(inner) >= 8, "unknown_session")
    prefix, msg = read_prefix(inner[8:])
    refuse_unless(prefix["session_epoch"] <= now + 3_653 * DAY_MS, "epoch_too_far_ahead")
    me = identity(vector["b"])
    if "invite_id" in vector:
        name = lambda peer: conn_id(fingerprint(me), fingerprint(peer), un64(vector["invite_id"]))
    else:
        name = lambda _: un64(vector["conn_id"])
    peer = identity(vector["a"])
    session = answer(me, read_secrets(un64(vector["prekey_secrets"])), un64(vector["ss"]), prefix, name, peer)
    session["prefix"], session["msg"], session["name"] = prefix, msg, name(peer)
    session["ratchet"], session["record"] = open_msg(session["ratchet"], session["ad"], msg)
    return session


def same_handshake(vector, session, compare):
    for field in ("conn_id", "session_id", "exp", "record"):
        found = session["name"] if field == "conn_id" else session[field]
        compare.same(field, found, un64(vector[field]))
    hello, expected = session["hello"], vector["hello"]
    compare.same("reason", hello["reason"], expected["reason"])
    for field in ("incarnation", "resume", "previous"):
        compare.same(f"hello, {field}", hello[field], un64(expected[field]))
    compare.same("hello, tag", not any(hello["tag"]), expected["tag_is_zero"])


def handshakes(vectors, compare):
    pairing, rotation, now = vectors["pairing"], vectors["rotation"], vectors["now"]
    session = open_init(pairing, un64(pairing["inner"]), now)
    same_handshake(pairing, session, compare)
    compare.same("card", session["card"], un64(pairing["card"]))
    compare.same("H(prefix)", sha256(session["prefix"]["raw"]), un64(pairing["prefix_hash"]))
    compare.same("H(MSG)", sha256(session["msg"]), un64(pairing["msg_hash"]))
    for vector in vectors["invalid"]:
        # A changed CT gives another shared secret, which only ML-KEM could tell: `sealed` does not open either way.
        compare.refused(f"INIT, {vector['name']}", open_init, pairing, un64(vector["inner"]), now, why=vector["why"])
    session = open_init(rotation, un64(rotation["inner"]), now)
    same_handshake(rotation, session, compare)
    confirmed = dict(read_sessions(un64(rotation["b_sessions"]))["confirmed"])
    proof = kdf(ZEROS, confirmed[session["hello"]["previous"]], label(b"cont"))
    compare.same("continuity", mac(proof, session["th"]), session["hello"]["tag"])
    after = read_sessions(un64(rotation["b_sessions_after"]))
    compare.same("session after", after["current"]["ratchet"], session["ratchet"])
    compare.same("session after", after["current"]["ad"], session["ad"])


def open_in(sessions, inner):
    refuse_unless(len(inner) >= 8)
    current = sessions["current"]
    refuse_unless(inner[:8] == current["id"][:8], "unknown_session")
    current["ratchet"], record = open_msg(current["ratchet"], current["ad"], inner[8:])
    return record


def ratchets(vectors, compare):
    for story in vectors["stories"]:
        sessions = read_sessions(un64(story["sessions"]))
        for at, step_vector in enumerate(story["steps"]):
            what = f"{story['name']}, step {at}"
            if "sessions" in step_vector:
                sessions = read_sessions(un64(step_vector["sessions"]))
            elif "why" in step_vector:
                compare.refused(what, open_in, sessions, un64(step_vector["inner"]), why=step_vector["why"])
            else:
                compare.same(what, open_in(sessions, un64(step_vector["inner"])), un64(step_vector["record"]))
        after = read_sessions(un64(story["sessions_after"]))
        compare.same(f"{story['name']}, after", sessions["current"]["ratchet"], after["current"]["ratchet"])


def envelopes(vectors, compare):
    for vector in vectors["sizes"]:
        compare.same(f"size of {vector['length']}", padded_len(vector["length"]), vector["size"])
    for vector in vectors["valid"]:
        inner = open_envelope(vector["key"], un64(vector["mailbox"]), un64(vector["envelope"]))
        compare.same("inner", inner, bytes(1 + at % 251 for at in range(vector["inner_bytes"])))
    for vector in vectors["invalid"]:
        arguments = vector["key"], un64(vector["mailbox"]), un64(vector["envelope"])
        compare.refused(f"envelope, {vector['name']}", open_envelope, *arguments)


def plaintexts(vectors, compare):
    for vector in vectors["valid"]:
        record = read_record(un64(vector["record"]))
        for field in ("message_id", "incarnation", "body"):
            compare.same(field, record[field], un64(vector[field]))
        found = (record["kind"], record["seq"], record["sent"])
        compare.same("head", found, (vector["kind"], int(vector["seq"]), vector["sent"]))
    for vector in vectors["invalid"]:
        compare.refused(f"record, {vector['name']}", read_record, un64(vector["record"]))
    for vector in vectors["payloads"]:
        entries = read_payload(vector["kind"], un64(vector["body"]))
        compare.same(vector["kind"], as_json(entries), vector["entries"])
    for vector in vectors["invalid_payloads"]:
        what = f"{vector['kind']}, {vector['name']}"
        compare.refused(what, read_payload, vector["kind"], un64(vector["body"]))


def main():
    here = Path(__file__).resolve().parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent.parent / "proto" / "vectors"
    readers = {
        "card": cards, "prekeys": prekeys, "handshake": handshakes, "ratchet": ratchets, "envelope": envelopes,
        "plaintext": plaintexts,
    }
    compare = Comparison()
    for name, read in readers.items():
        read(json.loads((folder / f"{name}.json").read_text()), compare)
    for difference in compare.differences:
        print(difference)
    print(f"{compare.compared} compared, {len(compare.differences)} differ")
    return 1 if compare.differences else 0


if __name__ == "__main__":
    sys.exit(main())
