"""Checks /openapi.json: starts a relay behind the signing proxy and runs schemathesis against the
document.

Fails if a response is undocumented, if there is a 5xx or a panic, if an example does not match its
schema, or if less than 80 % of the operations ever returned 2xx.

    python tests/openapi/check.py [RELAY] [--seed N]
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema_rs

from proxy import Proxy

HERE = Path(__file__).parent
RELAY = HERE.parent.parent / "target/debug/sealpost-relay"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SUCCESS_RATIO_MIN = 0.8


def start_relay(program: str, directory: Path) -> tuple[subprocess.Popen, str]:
    """Starts a relay with open registration; returns it with its host and port."""
    arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--registration",
        "open",
        "--egress-allow",
        "127.0.0.0/8",
    ]
    with open(directory / "relay.log", "wb") as log:
        command = [program, *arguments, "--data", str(directory / "relay")]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = relay.stdout.readline()
    if "listening on http://" not in line:
        sys.exit(f"the relay did not start:\n{(directory / 'relay.log').read_text()}")
    return relay, line.split("http://")[1].strip()


def fetch_document(authority: str) -> dict:
    connection = http.client.HTTPConnection(authority, timeout=30)
    connection.request("GET", "/openapi.json")
    return json.loads(connection.getresponse().read())


def find_invalid_examples(document: dict) -> list[str]:
    """Returns the examples of the document that do not match their schemas."""
    invalid = []

    def visit(path: str, value):
        if isinstance(value, list):
            for index, item in enumerate(value):
                visit(f"{path}/{index}", item)
        if not isinstance(value, dict):
            return
        schema = value.get(
            "schema", value if "type" in value or "allOf" in value or "oneOf" in value else None
        )
        examples = [value["example"]] if "example" in value else []
        named = value.get("examples", [])
        for example in named.values() if isinstance(named, dict) else named:
            if isinstance(example, dict) and "$ref" in example:
                example = document["components"]["examples"][example["$ref"].rsplit("/", 1)[1]][
                    "value"
                ]
            examples.append(example)
        for example in examples if schema else []:
            schema_with_components = {**schema, "components": document["components"]}
            for error in jsonschema_rs.Draft202012Validator(schema_with_components).iter_errors(
                example
            ):
                invalid.append(f"{path}: {json.dumps(example)[:100]}: {error.message[:200]}")
        for name, item in value.items():
            if name not in ("example", "examples"):
                visit(f"{path}/{name}", item)

    components = document["components"]
    visit(
        "",
        {
            "paths": document["paths"],
            "webhooks": document["webhooks"],
            "responses": components["responses"],
        },
    )
    visit("/components/schemas", components["schemas"])
    return invalid


def run_schemathesis(url: str, seed: int) -> bool:
    config = HERE / "schemathesis.toml"
    command = [
        SCHEMATHESIS,
        "--config-file",
        config,
        "run",
        f"{url}/openapi.json",
        "--seed",
        str(seed),
    ]
    return subprocess.run(command, cwd=tempfile.gettempdir()).returncode == 0


def print_coverage(proxy: Proxy) -> bool:
    """Prints the response statuses of each operation; returns whether enough succeeded."""
    print(f"\n{'operation':<24} {'sent':>6}  responses")
    succeeded = 0
    for operation in proxy.operations:
        responses = proxy.responses[operation.id]
        succeeded += any(200 <= status < 300 for status in responses)
        shown = "  ".join(f"{status}: {count}" for status, count in sorted(responses.items()))
        print(f"{operation.id:<24} {proxy.requests[operation.id]:>6}  {shown}")
    ratio = succeeded / len(proxy.operations)
    print(f"\n{succeeded} of {len(proxy.operations)} operations returned 2xx ({ratio:.0%})")
    return ratio >= SUCCESS_RATIO_MIN


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("relay", nargs="?", default=RELAY)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        relay, authority = start_relay(str(options.relay), Path(name))
        try:
            document = fetch_document(authority)
            invalid = find_invalid_examples(document)
            print(
                "\n".join(
                    ["examples that do not match their schemas:", *invalid]
                    if invalid
                    else ["all examples match their schemas"]
                )
            )
            proxy = Proxy(authority, document)
            conforms = run_schemathesis(proxy.serve(), options.seed)
            covered = print_coverage(proxy)
        finally:
            relay.terminate()
            exited_cleanly = relay.wait(60) == 0
        log = (Path(name) / "relay.log").read_text()
    if "panicked" in log or not exited_cleanly:
        print(log)
        return 1
    return 0 if conforms and covered and not invalid else 1


if __name__ == "__main__":
    sys.exit(main())
