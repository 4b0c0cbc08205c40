#!/usr/bin/env python3
"""Replies to each unread message that is not a reply itself, then marks it as read.

    SEALPOST_DATA=/var/lib/sealpost reply.py

Two nodes that both run this program do not reply to each other's replies. The program does not mark
replies as read; they become read when it marks a later message of their chat.

A message has a `uuid`, which is the same at both nodes, and an `id`, which names it in one chat of
this node. A reply carries a client id derived from the `uuid`. If the program is interrupted
between sending and marking as read, the next run sends no second reply.
"""

import json
import os
import pathlib
import urllib.request
import uuid

DATA = pathlib.Path(os.environ["SEALPOST_DATA"])
REPLY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://sealpost.example/reply.py")


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
        body = response.read()
        return json.loads(body) if body else None


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
    for message in list(unread_messages()):
        if message.get("replyTo"):
            continue
        chat = call("GET", f"/v1/chats/{message['chat']}")
        reply = {
            "to": [chat["connection"]],
            "content": f"Received, {len(message['content'])} characters. Thank you.",
            "replyTo": message["id"],
            "clientId": str(uuid.uuid5(REPLY_NAMESPACE, message["uuid"])),
        }
        sent = call("POST", "/v1/messages", reply)["items"][0]
        call("POST", f"/v1/messages/{message['id']}/read", {})
        contact = message["sender"]["contact"]
        print(f"{message['id']} from {contact}: replied with {sent['id']}", flush=True)


if __name__ == "__main__":
    main()
