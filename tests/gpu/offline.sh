#!/bin/bash
# The check on a machine without make or network; see carry.sh. Arguments are those of python -m tests.gpu.
#
#   bash tests/gpu/offline.sh --out "$OUT"
#   PYTHON=python3.12 bash tests/gpu/offline.sh --device cpu --tiny
#
# It makes .venv, which also sees the packages of the machine's own Python, and installs .gpu-wheels into it.
set -eu
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv --without-pip .venv
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Where the machine's Python is a venv itself, --system-site-packages would show its base: a .pth file names its folder.
"$python" -c 'import sysconfig as s; print("import site; site.addsitedir(%r)" % s.get_path("purelib"))' >"$site/zz.pth"
"$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" \
  .gpu-wheels/*.whl
touch .venv/ready
exec .venv/bin/python -m tests.gpu "$@"
