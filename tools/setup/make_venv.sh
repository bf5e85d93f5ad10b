#!/bin/sh
# Make a virtual environment with everything that the demo and the tests need: make_venv.sh FOLDER PYTHON
# Nothing is compiled. If a set-up is killed at any point, the next one repairs it.
set -e
venv=$1 python=$2
cd "$(dirname "$0")/../.."

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  { echo "setup: '$python' is not Python 3.10 or later. Try PYTHON=python3.13." >&2; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null ||
  { echo "setup: $python has no venv module. Install it (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }

# If a killed set-up left processes behind, they keep the lock until they end.
if command -v flock >/dev/null; then
  exec 9>"$venv.lock"
  flock -n 9 || { echo "setup: waiting for another set-up of $venv"; flock 9; }
fi
# The mark lies outside the folder, so that an interrupted 'rm' does not delete it.
if [ -e "$venv.unfinished" ]; then
  echo "setup: the last set-up of $venv was interrupted, so it is made again"
  rm -rf "$venv"
fi
touch "$venv.unfinished"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null

# If a command fails, run it again without the cache: a damaged file in the cache would make it fail every time.
try() { "$@" || { echo "setup: trying again without the cache" >&2; "$@" $no_cache; }; }
no_cache=--no-cache-dir
try "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
no_cache=--no-cache
install() { try "$venv/bin/uv" pip install --python "$venv/bin/python" --constraint requirements/constraints.txt "$@"; }
requirements=
for name in build runtime openmmlab demo tests web export features docs tracking remote shards seg; do
  requirements="$requirements -r requirements/$name.txt"
done
# Keep a compiled mmcv if this environment has one.
"$venv/bin/python" -m pip show --quiet mmcv 2>/dev/null || requirements="$requirements -r requirements/mmcv.txt"
install $requirements
install --no-deps -r requirements/no_deps.txt
install --no-deps --target "$venv/compared" -r requirements/compared.txt
install --no-deps --no-build-isolation ./projects/mmcv_ops --editable .
# Damaged files in a cache are installed without an error, so compare all files with the packages' own hashes.
"$venv/bin/python" tools/setup/check_files.py "$venv/bin/uv"
touch "$venv/.setup-done"
rm "$venv.unfinished"
