#!/usr/bin/env bash
# Run train_ovo.py and append what it says to a log: train_logged.sh LOG FLAGS...
# Exits with the trainer's status. An interrupted run goes on where it stopped.
here="$(cd "$(dirname "$(readlink -f "$0")")" && pwd)"
log="$1"
shift
python="$here/.venv/bin/python"
[ -x "$python" ] || python="$(command -v python || command -v python3)"
# tee -i outlives Ctrl-C, so that the trainer's last words reach the log, but ends when the log cannot
# be written, and the trainer with it; the trainer takes this shell's place, so that a signal sent
# here reaches it and its status is the status
: >> "$log" || exit 2
exec > >(exec tee -i -a --output-error=exit "$log") 2>&1
exec "$python" -u "$here/train_ovo.py" --resume "$@"
