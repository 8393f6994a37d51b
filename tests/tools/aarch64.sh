#!/usr/bin/env bash
# Builds tinydl for 64-bit ARM beside an x86-64 machine, and runs it under QEMU: the digests of tests/tools/hashes.py must be
# those of this machine, and the kernels' tests must pass. For Debian and Ubuntu, as root or with
#   apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross; dpkg --add-architecture arm64; apt-get update
# done before. Python here must be of the version that the distribution has, and have tinydl's build requirements and tinydl.
# QEMU is some 20 times as slow as a processor: the tests take half an hour.
set -euo pipefail
python=${1:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
tag=cp${version/./}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$(dirname "$0")/../.."
git ls-files -z | xargs -0 cp --parents -t "$work"

echo "== an ARM Python $version and its packages"
mkdir "$work/packages" "$work/root" "$work/site"
(cd "$work/packages"
 needed=$(apt-cache depends --recurse --no-{recommends,suggests,conflicts,breaks,replaces,enhances} "python$version:arm64" |
          grep -E '^[a-z].*:arm64$' | grep -vE '^(dpkg|tar|install-info):' | sort -u)
 apt-get download -q $needed libstdc++6:arm64)
for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/root"; done
"$python" -m pip install --quiet --target "$work/site" --only-binary :all: --implementation cp --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 --platform any \
    'numpy>=1.26' tqdm pytest hypothesis mpmath threadpoolctl

echo "== the build"
(cd "$work" && export _PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" \
    SETUPTOOLS_EXT_SUFFIX=".cpython-${tag#cp}-aarch64-linux-gnu.so" &&
 "$python" setup.py build_ext --inplace >build.log 2>&1) || { tail -30 "$work/build.log"; exit 1; }

arm() {
    PYTHONPATH="$work:$work/site" qemu-aarch64 -L "$work/root" \
        -E LD_LIBRARY_PATH="$work/root/usr/lib/aarch64-linux-gnu" "$work/root/usr/bin/python$version" "$@"
}
echo "== the bits"
"$python" tests/tools/hashes.py >"$work/here.txt"
(cd "$work" && arm tests/tools/hashes.py) >"$work/arm.txt"
diff "$work/here.txt" "$work/arm.txt"
echo "the same $(wc -l <"$work/arm.txt") digests"

echo "== the kernels' tests"
(cd "$work" && arm -m pytest -q -p no:cacheprovider tests/test_kernels.py tests/test_vmath.py tests/test_conv.py \
    tests/test_recurrent.py tests/test_attention.py tests/test_strategies.py)
