#!/usr/bin/env python3
"""Measures this project's CPU engine against ONNX Runtime, OpenVINO and PyTorch on the same random full-size weights, alternating in
one run, and prints the result as Markdown. `run.sh` beside it makes what it needs; README.md says how to read it."""
import argparse
import datetime
import os
import platform
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch
import torch.nn.functional as F
from PIL import Image

import graphs
from cfvit_model import MEAN, STD
from engines import THREADS, OnnxRuntime, OpenVino, Ours, Peer, first, load_safetensors, timed

BLOCK = 5  # calls of one contender in a row
PAUSE_S = 0.02  # between blocks: threads of the last contender that still spin go to sleep
SAME = 1e-4  # logits may differ by this much
FINE_SHARE = 0.27
CROP = {False: 0.875, True: 0.9}
ROOT = Path(__file__).resolve().parents[2]


def tensors(path, geo):
    """Both inputs of a photograph, prepared as the authors do at evaluation."""
    image = Image.open(path).convert("RGB")
    side, (width, height) = geo.fine_side, image.size
    short = int(side / CROP[geo.lvvit])
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    image = image.resize(size, Image.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    fine = ((pixels - mean) / std).contiguous()
    return F.interpolate(fine[None], (side // 2, side // 2), mode="bilinear", align_corners=True)[0], fine


def rounds(contenders, count, ours):
    """Alternates blocks of calls: name -> a time per round (the median of its block, ms); and the FMA peak of each round."""
    for run in contenders.values():
        for _ in range(2 * BLOCK):
            run()
    times, peaks = {name: [] for name in contenders}, []
    for _ in range(count):
        for name, run in contenders.items():
            time.sleep(PAUSE_S)
            times[name].append(np.median([run() for _ in range(BLOCK)]))
        time.sleep(PAUSE_S)
        peaks.append(float(ours.ask("peak")))
    return {name: np.array(t) for name, t in times.items()}, np.array(peaks)


def check_same(what, got, expected):
    difference = float(np.abs(np.asarray(got) - expected).max())
    if not difference <= SAME:
        raise SystemExit(f"{what}: logits differ by {difference:.1e}, at most {SAME:.0e} is the same answer")
    return difference


def stages(peer, ours, stage, count):
    """One stage: ours against each peer and graph, as rows of (name, median ms, median ratio); the FMA share; the largest difference."""
    contenders, worst = {"cfvit": ours.stage(stage)}, 0.0
    ours.ask("coarse")
    ours.ask(stage)
    logits = ours.numbers("logits")
    for key in peer.modules:
        if key[0] != stage:
            continue
        path = peer.export(key)
        worst = max(worst, check_same(f"cfvit, {stage}", logits, peer.logits[key]))
        for kind in (OnnxRuntime, OpenVino):
            engine, arrays = kind(path), peer.arrays(key)
            worst = max(worst, check_same(f"{kind.name}, {key}", first(engine(*arrays)), logits))
            contenders[f"{kind.name}, {key[1]}"] = timed(engine, arrays)
    times, peaks = rounds(contenders, count, ours)
    flop = graphs.executed_flop(peer.geo).get(stage)
    share = float(np.median(flop / (times["cfvit"] * 1e6 * peaks))) if flop else None
    rows = {name: (float(np.median(t)), float(np.median(t / times["cfvit"]))) for name, t in times.items()}
    return {"rows": rows, "share": share, "peak": float(np.median(peaks)), "difference": worst, "flop": flop}


def batches(ours, count):
    """Both stages in batches against one image at a time: size -> median ms per image and median ratio to size 1, for each stage."""
    sizes = (1, 2, 4, 8)
    for size in sizes:
        ours.ask(f"batch {size}")
    times = {size: [] for size in sizes}
    for _ in range(count):
        for size in sizes:
            times[size].append(np.median([[float(ms) for ms in ours.ask(f"batch {size}").split()] for _ in range(BLOCK)], axis=0))
    times = {size: np.array(t) for size, t in times.items()}
    return {size: (np.median(t, axis=0), np.median(t / times[1], axis=0)) for size, t in times.items()}


@torch.inference_mode()
def torch_photo(peer, path, threshold):
    """The authors' early-exit path at batch 1, from the file to the decision. Gives ms and the confidence."""
    start = time.perf_counter()
    coarse, fine = tensors(path, peer.geo)
    logits, attention, features, embedded = peer.coarse(coarse)
    confidence = logits.softmax(0).max().item()
    if confidence < threshold:
        ranked = attention.sort(descending=True).indices
        informative, kept = ranked[: peer.geo.informative], ranked[peer.geo.informative :]
        peer.fine(fine, informative, kept, features, embedded).softmax(0).max().item()
    return (time.perf_counter() - start) * 1e3, confidence


def photographs(folder, most):
    suffixes = {".jpg", ".jpeg", ".png"}
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    if not found:
        raise SystemExit(f"{folder}: no photographs (.jpg, .png)")
    return found[:: max(1, len(found) // most)][:most]


def cascade(peer, ours, photos, passes):
    """Mean time per photograph, both programs in turn on blocks of photographs."""
    ours.ask("threshold 0")
    confidences = sorted(float(ours.ask(f"photo {path}").split()[2]) for path in photos)
    refined = round(FINE_SHARE * len(photos))
    threshold = (confidences[refined - 1] + confidences[refined]) / 2
    ours.ask(f"threshold {threshold}")
    sums = []
    for turn in range(passes + 1):
        mine = theirs = fine = 0
        for first in range(0, len(photos), BLOCK):
            block = photos[first : first + BLOCK]
            for path in block:
                ms, stage, _ = ours.ask(f"photo {path}").split()
                mine, fine = mine + float(ms), fine + (stage == "fine")
            time.sleep(PAUSE_S)
            theirs += sum(torch_photo(peer, path, threshold)[0] for path in block)
            time.sleep(PAUSE_S)
        if turn:  # the first pass warms up
            sums.append((mine / len(photos), theirs / len(photos), fine / len(photos)))
    mine, theirs, share = np.array(sums).T
    return {
        "ours": float(np.median(mine)), "torch": float(np.median(theirs)), "ratio": float(np.median(theirs / mine)),
        "fine": float(share[0]), "photos": len(photos), "passes": passes, "threshold": threshold,
    }  # fmt: skip


def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def issue_table(deit, lvvit, photo):
    """must, aim, measured."""
    ratio = lambda result, stage, name: result[stage]["rows"][name][1]
    ort, vino = ("ONNX Runtime, published", "OpenVINO, published")
    lean = "ONNX Runtime, lean"
    rows = [
        ("DeiT-S coarse vs ONNX Runtime, published graph", 1.35, 1.5, ratio(deit, "coarse", ort)),
        ("DeiT-S coarse vs OpenVINO f32, published graph", 1.25, 1.4, ratio(deit, "coarse", vino)),
        ("DeiT-S fine vs OpenVINO f32, published graph", 1.2, 1.35, ratio(deit, "fine", vino)),
        ("DeiT-S fine vs ONNX Runtime, published graph", 1.25, 1.35, ratio(deit, "fine", ort)),
        ("DeiT-S fine vs ONNX Runtime, lean graph", 1.12, 1.2, ratio(deit, "fine", lean)),
        ("LV-ViT-S coarse vs ONNX Runtime", 1.2, 1.4, ratio(lvvit, "coarse", ort)),
        ("LV-ViT-S fine vs ONNX Runtime, published graph", 1.2, 1.4, ratio(lvvit, "fine", ort)),
        (f"mean per photograph at {photo['fine']:.0%} fine vs PyTorch early exit", 2.3, 2.7, photo["ratio"]),
    ]
    text = ["| | must | aim | measured | |", "|---|---|---|---|---|"]
    verdict = lambda got, must, aim: "aim" if got >= aim else "must" if got >= must else "missed"
    for what, must, aim, got in rows:
        text.append(f"| {what} | {must}× | {aim}× | **{got:.2f}×** | {verdict(got, must, aim)} |")
    for name, result in (("DeiT-S", deit), ("LV-ViT-S", lvvit)):
        for stage in ("coarse", "fine"):
            got = result[stage]["share"]
            text.append(f"| {name} {stage}, executed FLOP / (time × FMA peak) | 80 % | 88 % | **{got:.0%}** | {verdict(got, 0.8, 0.88)} |")
    return "\n".join(text)


def times_table(name, result):
    text = [f"\n### {name}, medians\n", "| stage | contender | ms | time / cfvit's |", "|---|---|---|---|"]
    for stage, found in result.items():
        text += [f"| {stage} | {who} | {ms:.2f} | {ratio:.2f} |" for who, (ms, ratio) in found["rows"].items()]
    for stage, found in result.items():
        flop = f"{found['flop'] / 1e9:.2f} GFLOP executed, " if found["flop"] else ""
        text.append(f"\n{stage}: {flop}FMA peak {found['peak']:.0f} GFLOP/s, logits of all within {found['difference']:.1e}.")
    return "\n".join(text)


def measure(arch, args):
    """All stages of one model."""
    geo = graphs.FAMILIES[arch]
    photos = photographs(args.photos, args.most)
    coarse, fine = tensors(photos[0], geo)
    files = []
    for name, tensor in (("coarse", coarse), ("fine", fine)):
        files.append(args.work / f"{arch}-{name}.f32")
        files[-1].write_bytes(tensor.numpy().tobytes())
    model = args.work / f"{arch}.safetensors"
    with torch.inference_mode():
        peer = Peer(arch, load_safetensors(model), coarse, fine, args.work)
        ours = Ours(args.server, model)
        ours.ask(f"inputs {files[0]} {files[1]}")
        ours.ask("coarse")
        if not np.array_equal(ours.numbers("cells"), peer.informative.numpy()):
            raise SystemExit(f"{arch}: other informative cells than the reference")
        result = {stage: stages(peer, ours, stage, args.rounds) for stage in ("coarse", "fine") + (() if geo.lvvit else ("full",))}
    batch = batches(ours, args.rounds)
    photo = None if geo.lvvit else cascade(peer, ours, photos, args.passes)
    describe = ours.ask("describe")
    ours.close()
    return result, photo, batch, describe


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with <arch>.safetensors; graphs go there")
    parser.add_argument("--server", type=Path, required=True, help="the stage-server example, built with --release")
    parser.add_argument("--photos", type=Path, default=ROOT / "tests/data/pictures", help="folder of photographs")
    parser.add_argument("--most", type=int, default=60, help="photographs that are used at most")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--passes", type=int, default=5, help="over the photographs")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    load = os.getloadavg()[0]
    deit, photo, deit_batches, describe = measure("cf_deit_small", args)
    lvvit, _, lvvit_batches, _ = measure("cf_lvvit_small", args)
    now = datetime.datetime.now(datetime.timezone.utc)
    print(f"Measured on {now:%Y-%m-%d %H:%M} UTC, {cpu_name()}, {os.cpu_count()} processors, {THREADS} threads each, batch 1, f32. cfvit: {describe}.")
    print(f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}.")
    print(f"{args.rounds} rounds of blocks of {BLOCK} calls, alternating. Load average before {load:.1f}, after {os.getloadavg()[0]:.1f}.\n")
    print(issue_table(deit, lvvit, photo))
    print(times_table("DeiT-S 7×7", deit))
    print(times_table("LV-ViT-S 7×7", lvvit))
    print("\n### cfvit in batches, per image\n\n| | images | coarse ms | of one's | fine ms | of one's |\n|---|---|---|---|---|---|")
    for name, found in (("DeiT-S", deit_batches), ("LV-ViT-S", lvvit_batches)):
        for size, (ms, ratio) in found.items():
            print(f"| {name} | {size} | {ms[0]:.2f} | {ratio[0]:.2f} | {ms[1]:.2f} | {ratio[1]:.2f} |")
    print(f"\nPhotographs: {photo['photos']}, {photo['passes']} passes, η = {photo['threshold']:.3f}, {photo['fine']:.0%} fine: "
          f"{photo['ours']:.1f} ms from file to decision, PyTorch's early-exit path {photo['torch']:.1f} ms.")  # fmt: skip


if __name__ == "__main__":
    main()
