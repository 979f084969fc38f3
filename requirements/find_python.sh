#!/bin/sh
# Prints the path of a Python 3.10 (the newest Lava supports), looking at: the argument, the PATH,
# pyenv's versions, uv. A pyenv shim that cannot start an interpreter does not count.
works() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "3.10" ]; }

for candidate in "$1" python3.10 python3 python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10*/bin/python; do
  [ -n "$candidate" ] && works "$candidate" && "$candidate" -c "import sys; print(sys.executable)" && exit 0
done
if command -v uv >/dev/null 2>&1; then
  uv python install --quiet 3.10 2>/dev/null
  found=$(uv python find 3.10 2>/dev/null) && works "$found" && echo "$found" && exit 0
fi
echo "error: no Python 3.10 found (Lava runs on no newer one); install it with 'uv python install 3.10' \
or 'pyenv install 3.10', or name one: make PYTHON=/path/to/python3.10" >&2
exit 1
