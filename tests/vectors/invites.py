"""Invites and safety numbers (docs/e2ee-files-invites-vault.md)."""

import hashlib
import re

from primitives import Refused, kdf, refuse_unless, sha256, tobase64, unbase64


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


def half(version, identity, keys, iterations):
    data = hashlib.sha512(version.to_bytes(2, "big") + keys + identity + keys).digest()
    for _ in range(iterations - 1):
        data = hashlib.sha512(data + keys).digest()
    return "".join(
        f"{int.from_bytes(data[at : at + 5], 'big') % 100_000:05}" for at in range(0, 30, 5)
    )


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
