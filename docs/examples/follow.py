#!/usr/bin/env python3
"""Prints the events of a node, one per line.

    SEALPOST_DATA=/var/lib/sealpost follow.py POSITION_FILE

Stores the id of the last event in POSITION_FILE, so that no event is missed if this program or the
node restarts.
"""

import json
import os
import pathlib
import sys
import time
import urllib.request

DATA = pathlib.Path(os.environ["SEALPOST_DATA"])


def open_stream(last_event_id):
    """Opens the event stream after the given event."""
    address = (DATA / "api-address").read_text().strip()
    token = (DATA / "api-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    request = urllib.request.Request(f"http://{address}/v1/events", headers=headers)
    return urllib.request.urlopen(request, timeout=120)


def read_events(stream):
    """Yields (id, event, data) for each server-sent event; the id of some events is None."""
    event_id, event, data = None, None, []
    for line in stream:
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "id":
            event_id = value
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif not field and data:
            yield event_id, event, json.loads("\n".join(data))
            event_id, event, data = None, None, []


def describe(event, data):
    """Returns one line that a person can read."""
    if event == "delivery":
        reason = f" ({data['reason']})" if data.get("reason") else ""
        return f"{data['message']} to {data['contact']}: {data['status']}{reason}"
    if event == "message":
        return f"{data['id']} {data['direction']}: {data['content'][:60]!r}"
    return str(data.get("id", ""))


def store_position(position_file, event_id):
    """Replaces the file at once, so that it is never empty, whenever this program is killed."""
    new = position_file.with_name(position_file.name + ".new")
    new.write_text(event_id)
    new.replace(position_file)


def main():
    position_file = pathlib.Path(sys.argv[1])
    last_event_id = position_file.read_text().strip() if position_file.exists() else ""
    while True:
        try:
            with open_stream(last_event_id) as stream:
                for event_id, event, data in read_events(stream):
                    print(f"{event:<10} {describe(event, data)}", flush=True)
                    if event_id is not None:
                        last_event_id = event_id
                        store_position(position_file, last_event_id)
        except OSError as error:
            # This includes 401: the token changes when the node restarts, and is read again.
            print(f"disconnected: {error}; retrying", file=sys.stderr, flush=True)
        time.sleep(1)


if __name__ == "__main__":
    main()
