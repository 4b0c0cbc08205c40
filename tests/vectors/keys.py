"""Identities, cards and prekeys (docs/e2ee.md)."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_scalarmult_base

from primitives import (
    DAY_MS,
    ZEROS,
    Reader,
    Refused,
    kdf,
    label,
    refuse_unless,
    sha256,
    unbase64,
    verify,
    x_open,
)


def identity(seeds):
    """Derives the secret and public keys of an identity from its seeds."""
    ed, x = unbase64(seeds["ed_seed"]), unbase64(seeds["x_seed"])
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
    refuse_unless(
        1 <= len(name.encode()) <= 64 and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name),
        "name",
    )
    card = {
        "name": name,
        "ik_ed": reader.take(32),
        "ik_x": reader.take(32),
        "created": reader.u64(),
    }
    reader.end()
    refuse_unless(crypto_core_ed25519_is_valid_point(card["ik_ed"]), "weak key")
    verify(card["ik_ed"], b"card", record, signature)
    return card


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
    sealed = unbase64(vector["sealed"])
    refuse_unless(len(sealed) == 2_048)
    of_invite = "invite_secret" in vector
    secret = unbase64(vector["invite_secret"] if of_invite else vector["exp_pairing"])
    key = kdf(ZEROS, secret, label(b"prekeys") + bytes([0 if of_invite else vector["dir"]]))
    reader = Reader(x_open(key, sealed[:24], sealed[24:], unbase64(vector["mailbox"]), "sealed"))
    card = reader.lp() if of_invite else None
    base = reader.lp()
    refuse_unless(not any(reader.rest()))
    if card:
        read_card(card)
    return card, base
