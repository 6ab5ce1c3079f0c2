#!/usr/bin/env bash
# Set up and run the tests, on two workers of one thread each; further arguments go to pytest:
#   ./run_tests.sh -m "not slow"          without those that are slow or start Python anew
#   ./run_tests.sh -n 0 -k schedule       in one process, only those with "schedule" in their name
cd "$(dirname "$(readlink -f "$0")")" || exit 2
source ./setup_env.sh requirements-dev.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # threads that share cores wait for each other
workers=(-n 2 --maxschedchunk 2) # few at a time, since some take long
for word in "$@"; do
  case "$word" in -n* | --numprocesses* | --pdb) workers=() ;; esac
done
exec "$python" -m pytest "${workers[@]}" "$@"
