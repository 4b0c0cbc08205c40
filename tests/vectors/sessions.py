"""Handshake, ratchet and stored sessions (docs/e2ee.md)."""

import struct

from nacl.bindings import crypto_scalarmult_base

from keys import fingerprint, read_card
from primitives import (
    ZEROS,
    Reader,
    Refused,
    dh,
    kdf,
    label,
    lp,
    mac,
    refuse_unless,
    sha256,
    x_open,
)


def read_prefix(init):
    reader = Reader(init)
    refuse_unless(reader.take(5) == bytes([1, 1, 0, 1, 0]))
    prefix = {
        "ek": reader.take(32),
        "session_epoch": reader.u64(),
        "base_epoch": reader.u64(),
        "spk_id": reader.u32(),
    }
    prefix |= {"f_a": reader.take(8), "f_b": reader.take(8), "ct": reader.take(1_088)}
    for field in ("sealed", "hello"):
        length = reader.u32()
        prefix[field + "_ad"] = init[: reader.at]
        prefix[field] = reader.take(length)
    prefix["raw"] = init[: reader.at]
    return prefix, reader.rest()


def respond(own, secrets, ss, prefix, name_connection, peer=None):
    """Performs B's side of the handshake; without a peer, the card in the prefix identifies A."""
    base = secrets["base"]
    has_card = bool(prefix["sealed"])
    f_a = bytes(8) if has_card else fingerprint(peer)[:8]
    refuse_unless(
        prefix["f_a"] == f_a and prefix["f_b"] == fingerprint(own)[:8], "handshake_invalid"
    )
    requested = (prefix["base_epoch"], prefix["spk_id"])
    refuse_unless(
        requested == struct.unpack(">Q", base[41:49]) + struct.unpack(">I", base[65:69]),
        "base_not_held",
    )
    dh3 = dh(secrets["spk"], prefix["ek"])
    card = None
    if has_card:
        static = kdf(ZEROS, dh3 + ss, label(b"static"))
        card = x_open(static, bytes(24), prefix["sealed"], prefix["sealed_ad"], "handshake_invalid")
        peer = read_card(card)
    dh1, dh2 = dh(secrets["spk"], peer["ik_x"]), dh(own["x"], prefix["ek"])
    info = b"Sealpost-1_CURVE25519_SHA-256_ML-KEM-768"
    okm = kdf(ZEROS, b"\xff" * 32 + dh1 + dh2 + dh3 + ss, info, 128)
    root, header_a, header_b, exp = (okm[at : at + 32] for at in range(0, 128, 32))
    epoch = struct.pack(">Q", prefix["session_epoch"])
    connection = name_connection(peer)
    th = sha256(
        label(b"th"),
        b"\0\1",
        connection,
        fingerprint(peer),
        fingerprint(own),
        epoch,
        prefix["ek"],
        lp(base),
        prefix["ct"],
    )
    hello = x_open(
        kdf(ZEROS, exp, label(b"hello")),
        bytes(24),
        prefix["hello"],
        prefix["hello_ad"],
        "handshake_invalid",
    )
    ratchet = {
        "rk": root,
        "own": secrets["spk"],
        "dhr": None,
        "sending": None,
        "nhks": header_b,
        "pn": 0,
        "nhkr": header_a,
    }
    ratchet |= {"chains": [], "tombstones": []}
    return {
        "card": card,
        "exp": exp,
        "th": th,
        "ad": b"\5" + peer["ik_x"] + b"\5" + own["ik_x"] + th,
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


def step_ratchet(ratchet, header):
    refuse_unless(ratchet["dhr"] is None or ratchet["sending"] is not None, "header_refused")
    refuse_unless(header["dh"] != ratchet["dhr"], "header_refused")
    shared = dh(ratchet["own"], header["dh"], "header_refused")
    if ratchet["chains"]:
        skip_to(ratchet["chains"][-1], header["pn"])
        ratchet["chains"][-1]["head"] = None
    okm = kdf(ratchet["rk"], shared, label(b"root"), 96)
    chain = {
        "hk": ratchet["nhkr"],
        "dh": header["dh"],
        "head": {"ck": okm[32:64], "n": 0},
        "skipped": {},
    }
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


def copy_ratchet(ratchet):
    copied = {
        field: value.copy() if isinstance(value, dict) else value
        for field, value in ratchet.items()
    }
    copied["chains"] = [
        chain | {"skipped": chain["skipped"].copy(), "head": chain["head"] and chain["head"].copy()}
        for chain in ratchet["chains"]
    ]
    return copied


def open_msg(ratchet, ad, msg):
    """Opens a message; returns the new ratchet and the record. The given ratchet is unchanged."""
    refuse_unless(len(msg) >= 98 and msg[:2] == b"\1\2")
    nonce, sealed_header, body = msg[2:26], msg[26:82], msg[82:]
    ratchet = copy_ratchet(ratchet)
    active = [chain for chain in ratchet["chains"] if chain["head"]]
    old = [chain for chain in reversed(ratchet["chains"]) if not chain["head"]]
    for chain in active + [None] + old:
        header = open_header(chain["hk"] if chain else ratchet["nhkr"], nonce, sealed_header)
        if header:
            key = message_key(chain or step_ratchet(ratchet, header), header)
            body_key = kdf(ZEROS, key, label(b"msg"))
            return ratchet, x_open(body_key, nonce, body, ad + msg[:82], "body_invalid")
    raise Refused("no_header_key")


def read_receiver(reader):
    def chain():
        fields = {"hk": reader.take(32), "dh": reader.take(32)}
        fields["head"] = reader.opt(lambda: {"ck": reader.take(32), "n": reader.u32()})
        fields["skipped"] = dict(reader.list(lambda: (reader.u32(), reader.take(32))))
        return fields

    chains = reader.list(chain)
    return {
        "chains": chains,
        "tombstones": reader.list(lambda: (reader.take(32), reader.u32(), reader.u32())),
    }


def read_ratchet(reader):
    ratchet = {
        "rk": reader.take(32),
        "own": reader.take(32),
        "dhr": reader.opt(lambda: reader.take(32)),
    }
    ratchet["sending"] = reader.opt(
        lambda: {
            "dh": reader.take(32),
            "hk": reader.take(32),
            "ck": reader.take(32),
            "n": reader.u32(),
        }
    )
    refuse_unless(
        ratchet["sending"] is None
        or ratchet["sending"]["dh"] == crypto_scalarmult_base(ratchet["own"])
    )
    ratchet |= {"nhks": reader.take(32), "pn": reader.u32(), "nhkr": reader.take(32)}
    return ratchet | read_receiver(reader)


def read_current(reader):
    current = {
        "id": reader.take(16),
        "epoch": reader.u64(),
        "started": reader.u64(),
        "ad": reader.take(98),
    }
    current |= {
        "exp": reader.take(32),
        "prefix_hash": reader.opt(lambda: reader.take(32)),
        "stage": reader.u8(),
    }
    refuse_unless(current["stage"] <= 2)
    current["prefix"] = reader.lp() if current["stage"] == 0 else None
    return current | {
        "sealed": reader.u64(),
        "opened": reader.u64(),
        "ratchet": read_ratchet(reader),
    }


def read_old(reader):
    old = {
        "id": reader.take(16),
        "prefix_hash": reader.opt(lambda: reader.take(32)),
        "ad": reader.take(98),
    }
    return old | {"until": reader.u64(), "receiver": read_receiver(reader)}


def read_sessions(stored):
    reader = Reader(stored)
    refuse_unless(reader.u8() == 1)
    sessions = {
        "last": reader.u64(),
        "m": reader.u64(),
        "m_id": reader.opt(lambda: reader.take(16)),
    }
    sessions["confirmed"] = reader.list(lambda: (reader.take(16), reader.take(32)))
    sessions["current"] = reader.opt(lambda: read_current(reader))
    sessions["old"] = reader.list(lambda: read_old(reader))
    sessions |= {
        "ids": reader.list(lambda: reader.take(16)),
        "prefixes": reader.list(lambda: reader.take(32)),
        "replaced": [],
    }
    if reader.at < len(stored):
        sessions["replaced"] = reader.list(lambda: (reader.take(16), reader.take(32)))
        refuse_unless(sessions["replaced"])
    reader.end()
    return sessions
