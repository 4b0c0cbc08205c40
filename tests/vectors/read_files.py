"""Checks the test vectors of files, invites, safety numbers and the vault with an independent
implementation.

The format is in docs/e2ee-files-invites-vault.md. Exits with 1 and prints a line for each
difference. Usage: python tests/vectors/read_files.py [directory of vectors]
"""

import json
import sys
from pathlib import Path

from attachments import (
    NAMES,
    PREVIEW,
    edited_blob,
    open_blob,
    padded_len,
    padme,
    parts_of,
    plaintext,
    read_descriptor,
    seal_blob,
)
from invites import compare_code, half, read_code, read_invite, use_invite
from primitives import reason_of, sha256, tobase64, unbase64
from vault import (
    open_column,
    read_key_file,
    unwrap,
    unwrap_as_credential,
    unwrap_with_passphrase,
)


def check_attachments(vectors, check):
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
        blob = (
            unbase64(vector["blob"]) if "blob" in vector else edited_blob(vectors, vector["edited"])
        )
        lengths = (vector["ct_len"], unbase64(vector["ct_hash"]), vector["pt_len"])
        reason = reason_of(open_blob, unbase64(vector["file_key"]), *lengths, parts_of(blob))
        check(vector["name"], reason, vector["reason"])


def check_descriptors(vectors, check):
    for vector in vectors["descriptors"]:
        entries = read_descriptor(unbase64(vector["cbor"]))
        for key, name in enumerate(NAMES):
            value = tobase64(entries[key]) if isinstance(entries[key], bytes) else entries[key]
            check(f"{vector['name']}, {name}", value, vector[name])
        preview = tobase64(entries[PREVIEW]) if PREVIEW in entries else None
        check(f"{vector['name']}, preview", preview, vector.get("preview"))
    for vector in vectors["invalid_descriptors"]:
        check(
            vector["name"], reason_of(read_descriptor, unbase64(vector["cbor"])), vector["reason"]
        )


def check_invites(vectors, check):
    for vector in vectors["valid"]:
        for form in ("link", "uri"):
            for name, value in read_invite(vector[form]).items():
                check(f"{vector['name']}, {name}", value, vector[name])
    for vector in vectors["invalid"]:
        check(vector["name"], reason_of(read_invite, vector["text"]), vector["reason"])
    for vector in vectors["refused"]:
        check(
            vector["name"],
            reason_of(use_invite, vector["link"], vector["now"], vector["own"]),
            vector["refusal"],
        )


def check_safety_numbers(vectors, check):
    for vector in vectors["signal"]:
        sides = [vector["one"], vector["other"]]
        halves = [(side["id"].encode(), bytes.fromhex(side["key"])) for side in sides]
        digits = "".join(
            sorted(half(vector["version"], *side, vector["iterations"]) for side in halves)
        )
        check("signal", digits, vector["digits"])
    for vector in vectors["pairs"]:
        halves = []
        for side in (vector["one"], vector["other"]):
            keys, name = unbase64(side["ik_ed"]) + unbase64(side["ik_x"]), unbase64(
                side["fingerprint"]
            )
            check("fingerprint", name, sha256(b"Sealpost-1 id" + keys))
            halves.append(half(0, name, keys, 5_200))
        digits = "".join(sorted(halves))
        check("digits", digits, vector["digits"])
        check("shown", " ".join(digits[at : at + 5] for at in range(0, 60, 5)), vector["shown"])
    for vector in vectors["codes"]:
        known = unbase64(vector["own"]), unbase64(vector["peer"])
        check(
            vector["name"],
            reason_of(compare_code, read_code(vector["code"]), *known),
            vector["mismatch"],
        )
    for vector in vectors["invalid_codes"]:
        check(vector["name"], reason_of(read_code, vector["code"]), "malformed")


def check_vault(vectors, check):
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


def check_protections(vectors, check):
    for vector in vectors["passphrases"]:
        data_key = unwrap_with_passphrase(vector["passphrase"], unbase64(vector["record"]))
        check("passphrase", data_key, unbase64(vector["data_key"]))
    for vector in vectors["invalid_passphrases"]:
        record = unbase64(vector["record"])
        reason = reason_of(unwrap_with_passphrase, vector["passphrase"], record)
        check(vector["name"], reason, vector["reason"])
    for vector in vectors["credentials"]:
        key = read_key_file(vector["credential"])
        check("credential", unwrap_as_credential(key, unbase64(vector["record"])),
              unbase64(vector["data_key"]))
    for vector in vectors["invalid_credentials"]:
        key = read_key_file(vector["credential"])
        reason = reason_of(unwrap_as_credential, key, unbase64(vector["record"]))
        check(vector["name"], reason, vector["reason"])


def main():
    directory = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "proto" / "vectors"
    )
    checked, differing = 0, 0

    def check_file(file, *checks):
        vectors = json.loads((directory / file).read_text())

        def check(name, actual, expected):
            nonlocal checked, differing
            checked += 1
            if actual != expected:
                differing += 1
                print(f"{file}: {name}: read {actual!r}, expected {expected!r}", file=sys.stderr)

        for run_checks in checks:
            run_checks(vectors, check)

    check_file("attachment.json", check_attachments, check_descriptors)
    check_file("invite.json", check_invites)
    check_file("safety_number.json", check_safety_numbers)
    check_file("vault.json", check_vault)
    check_file("vault_protection.json", check_protections)
    print(f"{checked} checks of files, invites, safety numbers and the vault, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
