#!/bin/sh
# Make a virtual environment with everything that the demo and the tests need: make_venv.sh FOLDER PYTHON
# Nothing is compiled. A set-up that was killed, at whatever point, is made good by the next.
set -e
venv=$1 python=$2
cd "$(dirname "$0")/../.."

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  { echo "setup: Python 3.10 or later is needed, '$python' is not. Try PYTHON=python3.13." >&2; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null ||
  { echo "setup: $python has no venv module. Install it (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }

# Processes that a killed set-up left behind keep the lock until they end.
if command -v flock >/dev/null; then
  exec 9>"$venv.lock"
  flock -n 9 || { echo "setup: waiting for another set-up of $venv"; flock 9; }
fi
# The mark lies outside of the folder, so that a killed 'rm' does not take it along.
if [ -e "$venv.unfinished" ]; then
  echo "setup: the last set-up of $venv was interrupted, so it is made anew"
  rm -rf "$venv"
fi
touch "$venv.unfinished"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null

# Without the cache where it fails with it: a damaged file in the cache would fail for ever.
try() { "$@" || { echo "setup: trying again without the cache" >&2; "$@" $no_cache; }; }
no_cache=--no-cache-dir
try "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
no_cache=--no-cache
install() { try "$venv/bin/uv" pip install --python "$venv/bin/python" --constraint requirements/constraints.txt "$@"; }
requirements=
for name in build runtime openmmlab demo tests web export features docs tracking; do
  requirements="$requirements -r requirements/$name.txt"
done
# A compiled mmcv in this environment stays.
"$venv/bin/python" -m pip show --quiet mmcv 2>/dev/null || requirements="$requirements -r requirements/mmcv.txt"
install $requirements
install --no-deps -r requirements/no_deps.txt
install --no-deps --target "$venv/compared" -r requirements/compared.txt
install --no-deps --no-build-isolation ./projects/mmcv_ops --editable .
# A damaged file in a cache installs without a word, so the files are compared with the packages' own lists.
"$venv/bin/python" tools/setup/check_files.py "$venv/bin/uv"
touch "$venv/.setup-done"
rm "$venv.unfinished"
