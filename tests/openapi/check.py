"""Is /openapi.json true? Starts a relay, puts the signing proxy before it and sets schemathesis on the document.

Fails when an answer is not described, when there is a 5xx or a panic, when an example does not fit its schema, and when less
than 80 % of the operations were ever answered 2xx.

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
REACHED_AT_LEAST = 0.8


def start_relay(program: str, folder: Path) -> tuple[subprocess.Popen, str]:
    """A relay that registers everybody; returns it and its host and port."""
    arguments = ["serve", "--listen", "127.0.0.1:0", "--registration", "open", "--egress-allow", "127.0.0.0/8"]
    with open(folder / "relay.log", "wb") as log:
        command = [program, *arguments, "--data", str(folder / "relay")]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = relay.stdout.readline()
    if "listening on http://" not in line:
        sys.exit(f"the relay did not start:\n{(folder / 'relay.log').read_text()}")
    return relay, line.split("http://")[1].strip()


def fetch_document(authority: str) -> dict:
    connection = http.client.HTTPConnection(authority, timeout=30)
    connection.request("GET", "/openapi.json")
    return json.loads(connection.getresponse().read())


def bad_examples(document: dict) -> list[str]:
    """The examples of the document that do not fit the schemas beside which they stand."""
    bad = []

    def look(place: str, value):
        if isinstance(value, list):
            for index, item in enumerate(value):
                look(f"{place}/{index}", item)
        if not isinstance(value, dict):
            return
        schema = value.get("schema", value if "type" in value or "allOf" in value or "oneOf" in value else None)
        examples = [value["example"]] if "example" in value else []
        several = value.get("examples", [])
        for example in several.values() if isinstance(several, dict) else several:
            if isinstance(example, dict) and "$ref" in example:
                example = document["components"]["examples"][example["$ref"].rsplit("/", 1)[1]]["value"]
            examples.append(example)
        for example in examples if schema else []:
            whole = {**schema, "components": document["components"]}
            for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(example):
                bad.append(f"{place}: {json.dumps(example)[:100]}: {error.message[:200]}")
        for name, item in value.items():
            if name not in ("example", "examples"):
                look(f"{place}/{name}", item)

    components = document["components"]
    look("", {"paths": document["paths"], "webhooks": document["webhooks"], "responses": components["responses"]})
    look("/components/schemas", components["schemas"])
    return bad


def run_schemathesis(url: str, seed: int) -> bool:
    config = HERE / "schemathesis.toml"
    command = [SCHEMATHESIS, "--config-file", config, "run", f"{url}/openapi.json", "--seed", str(seed)]
    return subprocess.run(command, cwd=tempfile.gettempdir()).returncode == 0


def show_coverage(proxy: Proxy) -> bool:
    """Prints what each operation was answered; whether enough of them succeeded."""
    print(f"\n{'operation':<24} {'asked':>6}  answers")
    reached = 0
    for operation in proxy.operations:
        answers = proxy.answers[operation.id]
        reached += any(200 <= status < 300 for status in answers)
        shown = "  ".join(f"{status}: {count}" for status, count in sorted(answers.items()))
        print(f"{operation.id:<24} {proxy.asked[operation.id]:>6}  {shown}")
    share = reached / len(proxy.operations)
    print(f"\n{reached} of {len(proxy.operations)} operations were answered 2xx ({share:.0%})")
    return share >= REACHED_AT_LEAST


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("relay", nargs="?", default=RELAY)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        relay, authority = start_relay(str(chosen.relay), Path(name))
        try:
            document = fetch_document(authority)
            bad = bad_examples(document)
            print("\n".join(["examples that do not fit their schemas:", *bad] if bad else ["all examples fit their schemas"]))
            proxy = Proxy(authority, document)
            conforms = run_schemathesis(proxy.serve(), chosen.seed)
            covered = show_coverage(proxy)
        finally:
            relay.terminate()
            ended_well = relay.wait(60) == 0
        log = (Path(name) / "relay.log").read_text()
    if "panicked" in log or not ended_well:
        print(log)
        return 1
    return 0 if conforms and covered and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
