#!/bin/sh
# Prints the path of a Python: $2 if it is given; else the first of the versions in $1 ("3.14 3.13") that is on the PATH or
# among pyenv's; else the first that uv has or can install. A pyenv shim that cannot start an interpreter does not
# count, nor a Python without venv (Debian packages it apart).
works() { # $1: interpreter, $2: versions
  version=$("$1" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
  case " $2 " in *" $version "*) ;; *) return 1 ;; esac
}
path_of() { "$1" -c "import sys; print(sys.executable)"; }

if [ -n "$2" ]; then
  works "$2" "3.10 3.11 3.12 3.13 3.14" && path_of "$2" && exit 0
  echo "error: $2: not a Python 3.10 to 3.14 with venv" >&2
  exit 1
fi
for wanted in $1; do
  for candidate in "python$wanted" python3 python "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted".*/bin/python; do
    works "$candidate" "$wanted" && path_of "$candidate" && exit 0
  done
done
if command -v uv >/dev/null 2>&1; then
  for wanted in $1; do
    uv python install --quiet "$wanted" 2>/dev/null
    found=$(uv python find "$wanted" 2>/dev/null) && works "$found" "$wanted" && echo "$found" && exit 0
  done
fi
echo "error: no Python found of versions $1; install one with 'uv python install 3.13' or 'pyenv install 3.13', or name \
one: make PYTHON=/path/to/python3" >&2
exit 1
