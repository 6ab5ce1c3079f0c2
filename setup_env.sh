# Sourced by quickstart.sh, run_tests.sh and .ci/run: makes .venv and installs requirements.txt.
# Does nothing when that is already done for the same requirements.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: expected Python 3.11 or newer, found $(python3 --version 2>&1)" >&2
  exit 2
}
wanted="$(sha256sum < "$here/requirements.txt")"
if [ "$(cat "$here/.venv/installed.sha256" 2>/dev/null)" != "$wanted" ]; then
  echo "installing requirements.txt into .venv (PyTorch alone is several GB)"
  { [ -x "$here/.venv/bin/python" ] || python3 -m venv "$here/.venv"; } &&
    "$here/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r "$here/requirements.txt" &&
    echo "$wanted" > "$here/.venv/installed.sha256" || {
    echo "error: the installation failed; see the lines above, then run this again" >&2
    exit 1
  }
fi
python="$here/.venv/bin/python"
