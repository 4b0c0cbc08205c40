#!/usr/bin/env python3
"""Prints what changes at a node, one line for each event.

    SEALPOST_DATA=/var/lib/sealpost follow.py POSITION_FILE

The number of the last event is kept in POSITION_FILE, so that the program resumes without a gap
after it, or the node, was restarted.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

DATA = pathlib.Path(os.environ["SEALPOST_DATA"])


def open_stream(position):
    """Opens the event stream after the given event number."""
    address = (DATA / "api-address").read_text().strip()
    token = (DATA / "api-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    if position:
        headers["Last-Event-ID"] = position
    request = urllib.request.Request(f"http://{address}/v1/events", headers=headers)
    return urllib.request.urlopen(request, timeout=120)


def events(stream):
    """Yields (id, topic, data) for each server-sent event; events without an id have id None."""
    number, topic, data = None, None, []
    for line in stream:
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "id":
            number = value
        elif field == "event":
            topic = value
        elif field == "data":
            data.append(value)
        elif not field and data:
            yield number, topic, json.loads("\n".join(data))
            number, topic, data = None, None, []


def describe(topic, data):
    """Returns one line that a person can read."""
    if topic == "delivery":
        reason = f" ({data['reason']})" if data.get("reason") else ""
        return f"{data['message']} to {data['contact']}: {data['status']}{reason}"
    if topic == "message":
        return f"{data['id']} {data['direction']}: {data['content'][:60]!r}"
    return str(data.get("id", ""))


def main():
    position_file = pathlib.Path(sys.argv[1])
    position = position_file.read_text() if position_file.exists() else ""
    while True:
        try:
            with open_stream(position) as stream:
                for number, topic, data in events(stream):
                    print(f"{topic:<10} {describe(topic, data)}", flush=True)
                    if number is not None:
                        position = number
                        position_file.write_text(position)
        except (OSError, urllib.error.URLError) as error:
            print(f"disconnected: {error}; retrying", file=sys.stderr, flush=True)
        time.sleep(1)


if __name__ == "__main__":
    main()
