#!/usr/bin/env bash
# Set up and run the tests; further arguments go to pytest (./run_tests.sh -m "not slow").
cd "$(dirname "$(readlink -f "$0")")" || exit 2
source ./setup_env.sh
exec "$python" -m pytest "$@"
