#!/usr/bin/env bash
# Run train_ovo.py and append what it says to a log: train_logged.sh LOG FLAGS...
# Exits with the trainer's status. An interrupted run goes on where it stopped.
# The log is of trainings: help, a plan (--dry_run) and the error of a command that is refused before
# training begins stay on the terminal, so that a mistyped flag does not end up in the log of a
# training that is under way. Nor does a refused command leave an empty log behind.
here="$(cd "$(dirname "$(readlink -f "$0")")" && pwd)"
log="$1"
shift
python="$here/.venv/bin/python"
[ -x "$python" ] || python="$(command -v python || command -v python3)"
for word in "$@"; do
  case "$word" in -h | --help) exec "$python" "$here/train_ovo.py" --help ;; esac
done
for word in "$@"; do
  case "$word" in --dry_run) exec "$python" "$here/train_ovo.py" --resume "$@" ;; esac
done

# A training has begun with the first line that carries a time. What came before it (a library's
# warning, say) is part of the log, too.
# tee outlives Ctrl-C and a SIGTERM to the whole group (SLURM and systemd send one), so that the
# trainer's last words reach the log, but ends when the log cannot be written, and the trainer with it.
show_and_log() {
  local line before=""
  trap '' INT TERM
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line"
    before+="$line"$'\n'
    [[ "$line" =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}\ [0-9:]{8}Z\  ]] || continue
    printf '%s' "$before" >> "$log" || exit 1
    exec tee -a --output-error=exit "$log"
  done
  if [ -n "$is_new" ] && [ ! -s "$log" ]; then rm -f "$log"; fi
}

is_new=yes
if [ -e "$log" ] || [ -L "$log" ]; then is_new=""; fi
# it is there from the start, so that it can be followed at once
if ! { : >> "$log"; } 2> /dev/null; then
  echo "error: cannot write $log; choose another folder" >&2
  exit 2
fi
exec > >(show_and_log) 2>&1
# the trainer takes this shell's place: a signal sent here reaches it, and its status is the status
exec "$python" -u "$here/train_ovo.py" --resume "$@"
