#!/usr/bin/env python3
"""Runs exported graphs in ONNX Runtime and compares with the CPU engine's numbers: onnx_runtime.py FOLDER...

Each folder holds coarse.onnx, fine.onnx, static.onnx and raw little-endian tensors: coarse_image and fine_image, the expected
coarse_logits, class_attention, fine_logits and static_logits (.f32), and the cells that the CPU engine chose, informative and kept (.i32).
Prints a line a folder with the largest differences; exits with 1 if any is too large or cells differ. Where the package `onnx` is there,
its checker sees the graphs too.
"""
import sys
from pathlib import Path

import numpy as np
import onnxruntime

try:
    import onnx
except ImportError:
    onnx = None

# By what lies between the layers: of logits, and of the class attention, relative to its maximum.
TOLERANCE = {"tensor(float)": (1e-4, 1e-5), "tensor(float16)": (2e-2, 1e-2)}


def session(path):
    if onnx:
        onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # other tests run at the same time
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def read(folder, value):
    """The raw tensor that belongs to an input or output of a graph."""
    kind, dtype = (".i32", "<i4") if value.type == "tensor(int32)" else (".f32", "<f4")
    return np.fromfile(folder / (value.name + kind), dtype).reshape(value.shape)


def run(graph, folder, given):
    """All outputs by name, from the values `given` or else the folder's files; also the largest difference of the logits, and the largest
    logit, for people."""
    inputs = {v.name: given[v.name] if v.name in given else read(folder, v) for v in graph.get_inputs()}
    names = [v.name for v in graph.get_outputs()]
    outputs = dict(zip(names, graph.run(names, inputs)))
    logits = next(v for v in graph.get_outputs() if v.name.endswith("_logits"))
    found, expected = outputs[logits.name], read(folder, logits)
    return outputs, (float(np.abs(found - expected).max()), float(np.abs(expected).max()))


def chosen(attention, count):
    """Per picture the cells with the largest attention, ties in the order of their index."""
    return np.sort(np.argsort(-attention, axis=1, kind="stable")[:, :count], axis=1)


def check(folder):
    coarse, fine, static = (session(folder / f"{name}.onnx") for name in ("coarse", "fine", "static"))
    outputs, differences = {}, {}
    for name, graph in (("coarse", coarse), ("fine", fine), ("static", static)):
        found, differences[name] = run(graph, folder, outputs)
        outputs |= found
    attention = outputs["class_attention"]
    expected = read(folder, next(v for v in coarse.get_outputs() if v.name == "class_attention"))
    informative = next(v for v in fine.get_inputs() if v.name == "informative")
    same = np.array_equal(chosen(attention, informative.shape[1]), read(folder, informative))
    off = float(np.abs(attention - expected).max() / expected.max())
    kind = next(v.type for v in coarse.get_outputs() if v.name == "coarse_features")
    tolerance, attention_tolerance = TOLERANCE[kind]
    near = all(difference <= tolerance for difference, _ in differences.values())
    good = same and off <= attention_tolerance and near  # NaN is never good
    shown = ", ".join(f"{name} {d:.1e} of {largest:.1f}" for name, (d, largest) in differences.items())
    cells = "the same" if same else "OTHER"
    print(f"{'ok' if good else 'WRONG'}  {folder.name}: logits differ by {shown}, class attention by {off:.1e}; {cells} cells", flush=True)
    return good


if __name__ == "__main__":
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__ if onnx else 'not there: graphs not checked'}")
    folders = [Path(folder) for folder in sys.argv[1:]]
    good = [check(folder) for folder in folders]
    sys.exit(0 if good and all(good) else 1)
