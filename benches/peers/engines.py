"""The contenders behind one interface: each stage is a function that runs once and gives its milliseconds."""
import json
import subprocess
import time

import numpy as np
import onnxruntime
import openvino
import torch

import graphs

THREADS = 2


def load_safetensors(path):
    """Name -> f32 tensor."""
    data = path.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:header_end])
    header.pop("__metadata__", None)
    values = lambda begin, end: torch.from_numpy(np.frombuffer(data, "<f4", (end - begin) // 4, header_end + begin).copy())
    return {name: values(*entry["data_offsets"]).view(entry["shape"]) for name, entry in header.items()}


class Ours:
    """A `stage-server` process."""

    def __init__(self, program, model):
        self.process = subprocess.Popen([program, model, str(THREADS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"stage-server ended at `{command}`: see its message above")
        return answer.strip()

    def numbers(self, command):
        return np.array(self.ask(command).split(), dtype=np.float64)

    def stage(self, name):
        return lambda: float(self.ask(name))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class OnnxRuntime:
    """Its defaults but the number of threads."""

    name = "ONNX Runtime"

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]

    def __call__(self, *arrays):
        return self.session.run(None, dict(zip(self.inputs, arrays)))


class OpenVino:
    """f32 asked for: left alone it computes in bfloat16 where the CPU can."""

    name = "OpenVINO"

    def __init__(self, path):
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
        self.model = openvino.Core().compile_model(str(path), "CPU", hints)
        precision = self.model.get_property("INFERENCE_PRECISION_HINT")
        if precision != openvino.Type.f32:
            raise SystemExit(f"OpenVINO computes in {precision}, not in f32")
        self.request = self.model.create_infer_request()

    def __call__(self, *arrays):
        outputs = self.request.infer(list(arrays), share_inputs=True, share_outputs=True)
        return [outputs[port] for port in self.model.outputs]


def timed(engine, arrays):
    """`engine` on `arrays`, as a function that gives milliseconds."""

    def run():
        start = time.perf_counter()
        engine(*arrays)
        return (time.perf_counter() - start) * 1e3

    return run


class Peer:
    """One model's graphs: modules, their example inputs, and the ONNX files made of them."""

    def __init__(self, arch, weights, coarse, fine, folder):
        self.geo, self.arch, self.folder = graphs.FAMILIES[arch], arch, folder
        new = lambda kind: kind(self.geo, weights).eval()
        self.coarse, self.fine = new(graphs.Coarse), new(graphs.Fine)
        logits, attention, features, embedded = self.coarse(coarse)
        ranked = attention.sort(descending=True).indices
        informative, kept = (part.sort().values for part in (ranked[: self.geo.informative], ranked[self.geo.informative :]))
        self.informative = informative
        cells = (fine, informative, kept)
        self.modules = {
            ("coarse", "published"): (self.coarse, (coarse,)),
            ("fine", "published"): (self.fine, (*cells, features, embedded)),
        }
        if self.geo.lvvit:
            self.modules["fine", "lean"] = (new(graphs.LeanFine), (*cells, embedded, features))
        else:
            lean = new(graphs.LeanCoarse)
            self.modules["coarse", "lean"] = (lean, (coarse,))
            _, _, x, kv, embedded = lean(coarse)
            self.modules["fine", "lean"] = (new(graphs.LeanFine), (*cells, embedded, x, kv))
            self.modules["full", "published"] = (new(graphs.Static), (fine,))
        self.logits = {key: first(module(*inputs)) for key, (module, inputs) in self.modules.items()}

    def export(self, key):
        """The ONNX file of one graph."""
        module, inputs = self.modules[key]
        path = self.folder / f"{self.arch}-{'-'.join(key)}.onnx"
        torch.onnx.export(module, inputs, str(path), opset_version=17, dynamo=False)
        return path

    def arrays(self, key):
        return [tensor.numpy() for tensor in self.modules[key][1]]


def first(output):
    """The logits of a graph with one or several outputs."""
    return np.asarray(output[0] if isinstance(output, (tuple, list)) else output)
