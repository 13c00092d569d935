#!/bin/sh
# Print an interpreter of the Python version $1 (3.12) that can make virtual environments: from PATH, else pyenv's newest.
# Exits with 1 where there is none. A pyenv shim on PATH can exist without working, so each candidate is tried.
set -u
for candidate in "python$1" $(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python 2>/dev/null | sort -Vr); do
    if "$candidate" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
exit 1
