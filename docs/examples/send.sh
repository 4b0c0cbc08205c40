#!/bin/sh
# Sends a text with a file to a partner and waits until it is on the partner's disk.
#
#     send.sh PARTNER TEXT FILE
#
# Exits with 0 once the message is delivered. Safe to run again with the same three arguments: the
# client id is derived from them, so a second run waits for the first message and sends nothing new.
set -eu

partner=$1 text=$2 file=$3
client_id=$({ printf '%s\0%s\0' "$partner" "$text"; cat "$file"; } | sha256sum | cut -c 1-32)

exec sealpost send --to "$partner" -m "$text" -a "$file" --client-id "$client_id" --wait delivered
