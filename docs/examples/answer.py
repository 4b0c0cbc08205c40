#!/usr/bin/env python3
"""Replies to every unread message, then marks it as read.

    SEALPOST_DATA=/var/lib/sealpost answer.py

A reply carries a client id derived from the message it answers. If the program is interrupted
between sending and marking as read, the next run sends no second reply.
"""

import json
import os
import pathlib
import urllib.request
import uuid

DATA = pathlib.Path(os.environ["SEALPOST_DATA"])
REPLIES = uuid.uuid5(uuid.NAMESPACE_URL, "https://sealpost.example/answer.py")


def call(method, path, body=None):
    """Calls the local API and returns the JSON of the response."""
    address = (DATA / "api-address").read_text().strip()
    token = (DATA / "api-token").read_text().strip()
    request = urllib.request.Request(
        f"http://{address}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
        return json.loads(text) if text else None


def unread_messages():
    """Yields unread incoming messages, oldest first, page by page."""
    after = ""
    while True:
        page = call("GET", f"/v1/messages?direction=in&unread=true&order=asc{after}")
        yield from page["items"]
        if not page.get("next"):
            return
        after = f"&after={page['next']}"


def main():
    connections = {item["chat"]: item["id"] for item in call("GET", "/v1/connections")["items"] if "chat" in item}
    for message in list(unread_messages()):
        reply = {
            "to": [connections[message["chat"]]],
            "content": f"Received, {len(message['content'])} characters. Thank you.",
            "replyTo": message["id"],
            "clientId": str(uuid.uuid5(REPLIES, message["uuid"])),
        }
        sent = call("POST", "/v1/messages", reply)["items"][0]
        call("POST", f"/v1/messages/{message['id']}/read", {})
        print(f"{message['id']} from {message['sender']['contact']}: answered with {sent['id']}", flush=True)


if __name__ == "__main__":
    main()
