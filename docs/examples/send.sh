#!/bin/sh
# Sends a text with a file to a partner and waits until both are on the partner's disk.
#
#     send.sh PARTNER TEXT FILE
#
# Exits with 0 once the message is delivered; otherwise prints why not. The message stays queued if
# the script is interrupted: `sealpost status` lists what is under way.
set -eu

exec sealpost send --to "$1" -m "$2" -a "$3" --wait delivered
