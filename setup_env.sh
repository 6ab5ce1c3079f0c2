# Sourced by quickstart.sh, run_tests.sh and .ci/run:  source ./setup_env.sh REQUIREMENTS
# Makes .venv, installs REQUIREMENTS (requirements.txt to use the tool, requirements-quickstart.txt with
# weights for the quick start, requirements-dev.txt to change it) at the versions of constraints.txt,
# and sets $python. Does nothing where that is already done.
# CONSTRAINTS=none installs the newest versions that the requirements allow; CONSTRAINTS=FILE others.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
requirements="$1"
constraints="${CONSTRAINTS:-$here/constraints.txt}"
python="$here/.venv/bin/python"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: expected Python 3.11 or newer, found $(python3 --version 2>&1)" >&2
  exit 2
}
[ "$constraints" = none ] || [ -r "$constraints" ] || {
  echo "error: CONSTRAINTS: expected 'none' or a file, found $constraints" >&2
  exit 2
}

pip_install() {
  "$python" -m pip install --quiet --disable-pip-version-check "$@" -r "$here/$requirements"
}

install_pinned() {
  pip_install -c "$constraints" || {
    echo "note: the versions in $constraints cannot all be installed here ($("$python" --version));" \
      "trying the newest that $requirements allows" >&2
    pip_install
  }
}

# a list and the lists that it holds
lists_in() {
  echo "$1"
  sed -n 's/^-r //p' "$here/$1" | while read -r list; do lists_in "$list"; done
}

# what is installed is remembered per list
fingerprint() {
  {
    lists_in "$1" | while read -r list; do cat "$here/$list"; done
    [ "$constraints" = none ] || cat "$constraints"
  } | sha256sum
}
if [ "$(cat "$here/.venv/installed-$requirements" 2>/dev/null)" != "$(fingerprint "$requirements")" ]; then
  echo "installing $requirements into .venv (PyTorch alone is several GB)"
  [ -x "$python" ] || python3 -m venv "$here/.venv"
  if [ "$constraints" = none ]; then pip_install --upgrade; else install_pinned; fi || {
    echo "error: the installation failed; see the lines above, then run this again" >&2
    exit 1
  }
  lists_in "$requirements" | while read -r list; do
    fingerprint "$list" > "$here/.venv/installed-$list"
  done
fi
