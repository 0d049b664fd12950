#!/usr/bin/env python3
"""Makes the parity fixtures in tests/data/golden: tiny CF-ViTs with random weights, synthetic pictures, and what the model
computes on them in 64-bit arithmetic (only the coarse picture is made in 32-bit, as the published code does). The program under test
must reproduce the numbers from the same files.

    python3 -m venv /tmp/fixtures && /tmp/fixtures/bin/pip install torch==2.15.0 numpy==2.4.6 pillow==13.0.0
    /tmp/fixtures/bin/python tools/make_fixtures.py                     # writes tests/data/golden/*
    /tmp/fixtures/bin/python tools/make_fixtures.py --check DIR...      # compares this model code with existing fixtures

The model is that of `cfvit_model.py`. `--check` on outputs of
the published code showed a difference below 2e-5 in the logits. The checkpoints are stored in different ways on purpose (16-bit
and 64-bit floats, `module.` prefix, views, training leftovers), so that reading them is tested too; the expected values are
computed from the numbers as stored.
"""
import argparse
import json
import math
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from cfvit_model import ALPHA, BETA, FIRST_ATTENTION_BLOCK, MEAN, STD, Geometry, Network


def random_weights(geo, seed):
    """Random weights of a trained model's character: unit-scale activations, attention that prefers some cells, spread logits."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=rng)
    w = OrderedDict()

    def linear(name, out, inner, gain=1.0, bias=True):
        w[name + ".weight"] = normal(out, inner) * gain / math.sqrt(inner)
        if bias:
            w[name + ".bias"] = 0.1 * normal(out)

    def scale(name, width):
        w[name + ".weight"], w[name + ".bias"] = 1 + 0.2 * normal(width), 0.1 * normal(width)

    def mlp(name):
        linear(name + ".fc1", geo.hidden, c), linear(name + ".fc2", c, geo.hidden)

    c = geo.width
    w["cls_token"] = normal(1, 1, c)
    for i, side in enumerate((geo.grid, 2 * geo.grid)):
        w[f"pos_embed_list.{i}"] = 0.4 * normal(1, 1 + side * side, c)
    channels, kernel = 3, geo.patch
    if geo.lvvit:
        for i, (inner, size) in enumerate(((3, 7), (geo.stem, 3), (geo.stem, 3)), 1):
            w[f"patch_embed.conv{i}.weight"] = normal(geo.stem, inner, size, size) / math.sqrt(0.5 * inner * size * size)
            bn = f"patch_embed.bn{i}"
            scale(bn, geo.stem)
            w[bn + ".running_mean"] = 0.1 * normal(geo.stem)
            w[bn + ".running_var"] = 0.5 + torch.rand(geo.stem, generator=rng)
            w[bn + ".num_batches_tracked"] = torch.tensor(1000)
        channels, kernel = geo.stem, geo.patch // 2
    w["patch_embed.proj.weight"] = 2.0 * normal(c, channels, kernel, kernel) / math.sqrt(channels * kernel * kernel)
    w["patch_embed.proj.bias"] = 0.1 * normal(c)
    for i in range(geo.depth):
        block = f"blocks.{i}"
        scale(block + ".norm1", c), scale(block + ".norm2", c)
        linear(block + ".attn.qkv", 3 * c, c, 1.4, bias=not geo.lvvit)
        linear(block + ".attn.proj", c, c)
        mlp(block + ".mlp")
    scale("norm", c)
    linear("head", geo.classes, c, 1.6)
    if geo.lvvit:
        linear("aux_head", geo.classes, c, 1.6)
    scale("reuse_block.0", c)
    mlp("reuse_block.1")
    return w


def picture(seed, side, textured):
    """A smooth colour field with a few flat shapes; coarse colour steps keep the PNG small. `textured`: with a pattern that differs
    from pixel to pixel, so that resampling at slightly other places shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    planes = []
    for _ in range(3):
        fx, fy, phase = rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(0, 6.28)
        planes.append(128 + 90 * np.sin(6.28 * (fx * x + fy * y) + phase))
    image = Image.fromarray((np.stack(planes, -1).clip(0, 255) // 8 * 8).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for i in range(6):
        left, top = rng.integers(0, side * 3 // 4, 2)
        right, bottom = (left, top) + rng.integers(side // 10, side // 3, 2)
        shape = (draw.ellipse, draw.rectangle)[i % 2]
        shape((int(left), int(top), int(right), int(bottom)), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    if textured:
        row, column = np.mgrid[0:side, 0:side]
        pattern = (7 * column + 4 * row) % 11 * 12
        image = Image.fromarray((np.asarray(image) // 2 + pattern[..., None]).astype(np.uint8))
    return image


def compute(geo, weights, image, dtype):
    """One case of expected.json, without the picture's name."""
    side = geo.fine_side
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).to(dtype) / 255
    mean, std = (torch.tensor(v, dtype=dtype).view(3, 1, 1) for v in (MEAN, STD))
    fine = (pixels - mean) / std
    # In f32 always, as the published code does: its source coordinates are rounded to f32, and that moves the class attention by more
    # than the tests' tolerance.
    coarse = F.interpolate(fine[None].float(), (side // 2, side // 2), mode="bilinear", align_corners=True)[0].to(dtype)
    net = Network(geo, {name: t.to(dtype) for name, t in weights.items()})
    logits, attention, features, embedded = net.coarse(coarse)
    ranked = attention.sort(descending=True)
    informative = sorted(ranked.indices[: geo.informative].tolist())
    gap = ranked.values[geo.informative - 1] - ranked.values[geo.informative]
    probes = ((0, 0), (side // 3, side // 2), (side - 1, side - 7))
    return {
        "coarse_logits": logits.tolist(),
        "coarse_confidence": logits.softmax(0).max().item(),
        "class_attention": attention.tolist(),
        "informative": informative,
        "fine_logits": net.fine(fine, set(informative), features, embedded).tolist(),
        "boundary_gap": (gap / attention.mean()).item(),
        "input_mean": fine.mean((1, 2)).tolist(),
        "input_probe": [fine[channel, r, c].item() for channel in range(3) for r, c in probes],
    }


def as_stored_deit_7(w):
    """f32; some tensors are views: transposed storage, slices of one shared storage."""
    biases = torch.cat([w[f"blocks.{i}.attn.qkv.bias"] for i in range(5)])
    for i, part in enumerate(biases.chunk(5)):
        w[f"blocks.{i}.attn.qkv.bias"] = part
        w[f"blocks.{i}.mlp.fc1.weight"] = w[f"blocks.{i}.mlp.fc1.weight"].T.contiguous().T
    w["pos_embed_list.0"] = w["pos_embed_list.0"].transpose(1, 2).contiguous().transpose(1, 2)
    w["patch_embed.proj.weight"] = w["patch_embed.proj.weight"].contiguous(memory_format=torch.channels_last)
    return {"model": w, "flop": [0.1, 0.4], "anytime_classification": [50.0, 60.0], "budgeted_batch_classification": [[0.1, 0.4], [50.0, 60.0]]}


def as_stored_deit_9(w):
    """bf16, stored results missing."""
    w = OrderedDict((name, t.bfloat16()) for name, t in w.items())
    return {"model": w, "flop": None, "anytime_classification": None, "budgeted_batch_classification": None}


def as_stored_deit_7_patch_8(w):
    """A plain dict; f16 blocks, f32 norms, f64 head."""
    for name in w:
        if name.startswith("head."):
            w[name] = w[name].double()
        elif name.startswith("blocks.") and "norm" not in name:
            w[name] = w[name].half()
    return {"model": dict(w), "flop": (0.1, 0.4)}


def as_stored_lvvit_7(w):
    """A training checkpoint saved under DataParallel, in f16, with optimizer state and arguments."""
    w = OrderedDict(("module." + name, t.half() if t.is_floating_point() else t) for name, t in w.items())
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([parameter], lr=5e-4)
    parameter.sum().backward()
    optimizer.step()
    args = argparse.Namespace(model="cf_lvvit_small", lr=5e-4, epochs=300, resume="", output_dir="out", distributed=False)
    return {"model": w, "optimizer": optimizer.state_dict(), "epoch": 299, "args": args}


def as_stored_lvvit_9(w):
    """f32, the learned tensors saved as parameters."""
    learned = lambda name: "running" not in name and "num_batches" not in name
    w = OrderedDict((name, torch.nn.Parameter(t) if learned(name) else t) for name, t in w.items())
    return {"model": w}


FIXTURES = {
    "deit-7": (Geometry("cf_deit", 7, 36, 2, 4), as_stored_deit_7),
    "deit-9": (Geometry("cf_deit", 9, 48, 3, 4), as_stored_deit_9),
    "deit-7-patch-8": (Geometry("cf_deit", 7, 36, 3, 3, patch=8, classes=12), as_stored_deit_7_patch_8),
    "lvvit-7": (Geometry("cf_lvvit", 7, 40, 4, 3, stem=32), as_stored_lvvit_7),
    "lvvit-9": (Geometry("cf_lvvit", 9, 32, 2, 3, stem=24), as_stored_lvvit_9),
}


def describe(geo, weights):
    return {
        "architecture": geo.family, "coarse_stage_size": geo.grid, "patch_size": geo.patch, "embed_dim": geo.width, "depth": geo.depth,
        "num_heads": geo.heads, "mlp_ratio": geo.ratio, "num_classes": geo.classes, "crop_pct": 0.9 if geo.lvvit else 0.875,
        "alpha": ALPHA, "beta": BETA, "first_attention_block": FIRST_ATTENTION_BLOCK, "skip_lam": 2.0 if geo.lvvit else 1.0,
        "parameters": sum(t.numel() for name, t in weights.items() if ".running_" not in name and ".num_batches" not in name),
    }  # fmt: skip


def attention_difference(case, other):
    """Largest difference of the class attentions, relative to their maximum."""
    a, b = np.array(case["class_attention"]), np.array(other["class_attention"])
    return float(np.abs(a - b).max() / a.max())


def suitable(cases, in_f32):
    """The boundary must not flip in other arithmetic, the attention must be computable in f32 far within the tests' tolerance of
    1e-5, and the cases must not all be sure or all unsure."""
    if max(map(attention_difference, cases, in_f32)) > 3e-6:
        return False
    confidences = [case["coarse_confidence"] for case in cases]
    clear = all(case["boundary_gap"] > 5e-3 for case in cases)
    return clear and min(confidences) < 0.5 <= max(confidences) and len({tuple(c["informative"]) for c in cases}) == len(cases)


def make(name, out):
    geo, as_stored = FIXTURES[name]
    images = {f"shapes-{i}": picture(100 * sum(name.encode()) + i, geo.fine_side, textured=i == 2) for i in range(3)}
    for seed in range(1000):
        checkpoint = as_stored(random_weights(geo, seed))
        weights = {key.removeprefix("module."): t.detach() for key, t in checkpoint["model"].items()}
        cases, in_f32 = ([compute(geo, weights, i, dtype) for i in images.values()] for dtype in (torch.float64, torch.float32))
        if suitable(cases, in_f32):
            break
    else:
        raise SystemExit(f"{name}: no seed gives a suitable fixture")
    shutil.rmtree(out / name, ignore_errors=True)
    (out / name / "images").mkdir(parents=True)
    for stem, image in images.items():
        image.save(out / name / "images" / f"{stem}.crop.png", optimize=True)
    torch.save(checkpoint, out / name / "checkpoint.pth")
    for case, stem in zip(cases, images):
        case["image"] = stem + ".png"
    (out / name / "expected.json").write_text(json.dumps({"model": describe(geo, weights), "cases": cases}))
    shown = ", ".join(f"{c['coarse_confidence']:.2f} (gap {c['boundary_gap']:.3f})" for c in cases)
    print(f"{name}: seed {seed}, coarse confidences {shown}")


def check(folder):
    """The largest differences between this model code in f32 and a fixture (of the class attention: relative to its maximum)."""
    expected = json.loads((folder / "expected.json").read_text())
    checkpoint = torch.load(folder / "checkpoint.pth", map_location="cpu", weights_only=False)
    weights = {key.removeprefix("module."): t.detach() for key, t in checkpoint["model"].items()}
    m = expected["model"]
    geo = Geometry(m["architecture"], m["coarse_stage_size"], m["embed_dim"], m["num_heads"], m["mlp_ratio"], m["depth"])
    geo.patch = m.get("patch_size", 16)
    worst = dict.fromkeys(("coarse_logits", "fine_logits", "input_mean", "input_probe", "boundary_gap"), 0.0) | {"class_attention": 0.0}
    for case in expected["cases"]:
        image = Image.open(folder / "images" / (Path(case["image"]).stem + ".crop.png"))
        got = compute(geo, weights, image, torch.float32)
        if got["informative"] != case["informative"]:
            raise SystemExit(f"{folder}: {case['image']}: other informative cells")
        worst["class_attention"] = max(worst["class_attention"], attention_difference(case, got))
        for key in worst.keys() - {"class_attention"}:
            difference = np.abs(np.array(got[key]) - np.array(case[key])).max()
            worst[key] = max(worst[key], float(difference))
    print(folder, {key: f"{value:.1e}" for key, value in worst.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", nargs="+", type=Path, metavar="DIR", help="compare with these fixtures, write nothing")
    args = parser.parse_args()
    if args.check:
        for folder in args.check:
            check(folder)
        return
    out = Path(__file__).resolve().parent.parent / "tests" / "data" / "golden"
    for name in FIXTURES:
        make(name, out)


if __name__ == "__main__":
    main()
