#!/bin/sh
# Prints the path of a Python $1 ("3.10"), looking at: $2 (if given), the PATH, pyenv's versions, uv.
# A pyenv shim that cannot start an interpreter does not count.
wanted="$1"
works() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$wanted" ]; }

for candidate in "$2" "python$wanted" python3 python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$wanted"*/bin/python; do
  [ -n "$candidate" ] && works "$candidate" && "$candidate" -c "import sys; print(sys.executable)" && exit 0
done
if command -v uv >/dev/null 2>&1; then
  uv python install --quiet "$wanted" 2>/dev/null
  found=$(uv python find "$wanted" 2>/dev/null) && works "$found" && echo "$found" && exit 0
fi
echo "error: no Python $wanted found; install it with 'uv python install $wanted' or 'pyenv install $wanted', \
or name one: make PYTHON=/path/to/python$wanted" >&2
exit 1
