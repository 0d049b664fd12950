#!/bin/sh
# Fetches NVIDIA's TensorRT-RTX 1.7.1 (x86-64, from a wheel on PyPI) into target/tensorrt-rtx, where tests/build.rs finds it. It builds plans
# on machines without a GPU. Needs python3 with pip or venv. The libraries are NVIDIA's and under its licence; they don't become part of
# the program.
set -eu
cd "$(dirname "$0")/.."
folder=target/tensorrt-rtx
wheel=onnxruntime_ep_nv_tensorrt_rtx_cu12-0.5.0-py3-none-manylinux_2_28_x86_64.whl
[ ! -e "$folder/ready" ] || exit 0
if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: TensorRT-RTX is for x86-64 only"
    exit 0
fi
rm -rf "$folder"
mkdir -p "$folder"
python3 -m venv "$folder/venv"
echo "onnxruntime-ep-nv-tensorrt-rtx-cu12==0.5.0 --hash=sha256:d71fcbaf4adc627d82fffa6bbac9300a4bfc58fbfa604929b601d22211083d47" >"$folder/requirements.txt"
"$folder/venv/bin/pip" --disable-pip-version-check download --quiet --no-deps --only-binary :all: --dest "$folder" --require-hashes --requirement "$folder/requirements.txt"
python3 - "$folder" "$wheel" <<'PYTHON'
import pathlib, shutil, sys, zipfile

folder, wheel = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(folder / wheel) as archive:
    for name in archive.namelist():
        file = pathlib.PurePosixPath(name).name
        if file.startswith(("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")):
            with archive.open(name) as source, open(folder / file, "wb") as target:
                shutil.copyfileobj(source, target)
PYTHON
rm -rf "${folder:?}/$wheel" "$folder/venv"
touch "$folder/ready"
