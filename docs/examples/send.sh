#!/bin/sh
# Sends a text with a file to a partner and waits until the message is on the partner's disk. The
# partner's node then downloads the file.
#
#     send.sh PARTNER TEXT FILE
#
# Exits with 0 once the message is delivered; otherwise prints the reason. If the script is
# interrupted, the message stays queued: `sealpost status` lists undelivered messages.
set -eu

exec sealpost send --to "$1" -m "$2" -a "$3" --wait delivered
