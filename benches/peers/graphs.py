"""The peers' side as PyTorch modules with static shapes, to be traced into ONNX graphs.

*Published* graphs compute everything that the authors' code computes: all patches embedded, the whole reuse block, every row of the
last block. *Lean* graphs have the savings of this project's engine that do not change the result: patches gathered before their
projection, features reused for informative cells only, in DeiT's last block only the rows that somebody reads.
"""
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from cfvit_model import BETA, FIRST_ATTENTION_BLOCK, Geometry, Network  # noqa: E402

FAMILIES = {
    "cf_deit_small": Geometry("cf_deit", 7, 384, 6, 4, depth=12, classes=1000),
    "cf_lvvit_small": Geometry("cf_lvvit", 7, 384, 6, 3, depth=16, classes=1000),
}


class Graph(torch.nn.Module):
    """One graph: its weights are registered, so that they become initializers, and `net` computes with them."""

    def __init__(self, geo, weights):
        super().__init__()
        names = {}
        for name, tensor in weights.items():
            names[name] = name.replace(".", "_")
            self.register_buffer(names[name], tensor)
        self.geo, self.net = geo, Network(geo, {name: getattr(self, key) for name, key in names.items()})
        side, cells = 2 * geo.grid, torch.arange(geo.grid**2)
        corner = 2 * (cells // geo.grid) * side + 2 * (cells % geo.grid)
        self.register_buffer("children_of", corner[:, None] + torch.tensor([0, 1, side, side + 1]))
        patches = torch.arange(side**2)
        self.register_buffer("parent_of", patches // side // 2 * geo.grid + patches % side // 2)

    def positions(self, stage):
        return self.net.w[f"pos_embed_list.{stage}"][0]

    def patches_of(self, image, patches):
        """The embedding of some patches only."""
        net, geo = self.net, self.geo
        if geo.lvvit:
            x, size = self.stem(image), geo.patch // 2
        else:
            x, size = image, geo.patch
        channels, side = x.shape[0], 2 * geo.grid
        flat = x.reshape(channels, side, size, side, size).permute(1, 3, 0, 2, 4).reshape(side * side, channels * size * size)
        kernel = net.w["patch_embed.proj.weight"].reshape(geo.width, -1)
        return F.linear(flat.index_select(0, patches), kernel, net.w["patch_embed.proj.bias"])

    def stem(self, image):
        x, w = image[None], self.net.w
        for i, (stride, pad) in enumerate(((2, 3), (1, 1), (1, 1)), 1):
            bn = f"patch_embed.bn{i}."
            x = F.conv2d(x, w[f"patch_embed.conv{i}.weight"], stride=stride, padding=pad)
            x = F.batch_norm(x, w[bn + "running_mean"], w[bn + "running_var"], w[bn + "weight"], w[bn + "bias"]).relu()
        return x[0]

    def embed_coarse(self, image):
        return torch.cat((self.net.w["cls_token"][0], self.net.patches(image))) + self.positions(0)

    def reuse(self, features):
        return self.net.mlp(self.net.norm(features, "reuse_block.0"), "reuse_block.1")

    def block(self, x, i):
        """One block of all rows; also the class token's row of its attention."""
        net, name = self.net, f"blocks.{i}"
        out, row = net.attention(net.norm(x, name + ".norm1"), name + ".attn")
        x = x + self.scaled(out)
        out = net.mlp(net.norm(x, name + ".norm2"), name + ".mlp")
        return x + self.scaled(out), row

    def scaled(self, out):
        """What is added to the residual stream; no division by 1 in DeiT's graphs."""
        return out / self.net.residual if self.geo.lvvit else out

    def last_rows(self, x, kv, i):
        """Block `i` for the rows `x` only, with the keys and values of all: `kv`, `[2, heads, tokens, head_dim]`."""
        net, name, heads = self.net, f"blocks.{i}", self.geo.heads
        rows, width = x.shape
        weight, bias = net.w[name + ".attn.qkv.weight"], net.w[name + ".attn.qkv.bias"]
        q = F.linear(net.norm(x, name + ".norm1"), weight[:width], bias[:width]).view(rows, heads, -1).permute(1, 0, 2)
        attention = (q @ kv[0].transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
        x = x + net.linear((attention @ kv[1]).permute(1, 0, 2).reshape(rows, width), name + ".attn.proj")
        return x + net.mlp(net.norm(x, name + ".norm2"), name + ".mlp"), attention

    def keys_values(self, x, i):
        net, name = self.net, f"blocks.{i}"
        tokens, width = x.shape
        weight, bias = net.w[name + ".attn.qkv.weight"], net.w[name + ".attn.qkv.bias"]
        kv = F.linear(net.norm(x, name + ".norm1"), weight[width:], bias[width:])
        return kv.view(tokens, 2, self.geo.heads, -1).permute(1, 2, 0, 3)

    def trunk(self, x, blocks):
        average = torch.zeros(x.shape[0])
        for i in range(blocks):
            x, row = self.block(x, i)
            if i >= FIRST_ATTENTION_BLOCK:
                average = BETA * average + (1 - BETA) * row
        return x, average

    def tokens(self, fine, embedded, kept):
        cls = self.net.w["cls_token"][0] + self.positions(1)[:1]
        return torch.cat((cls, fine, embedded.index_select(0, kept + 1)))


class Coarse(Graph):
    """Published: logits, class attention, features, embedded tokens."""

    def forward(self, image):
        embedded = self.embed_coarse(image)
        x, average = self.trunk(embedded, self.geo.depth)
        features = self.net.norm(x, "norm")
        logits = self.net.answer(features)
        return logits / 1.25 if self.geo.lvvit else logits, average[1:], features, embedded


class Fine(Graph):
    """Published: everything, then the informative patches are taken."""

    def forward(self, image, informative, kept, features, embedded):
        reused = self.reuse(features[1:]).index_select(0, self.parent_of)
        fine = self.net.patches(image) + reused + self.positions(1)[1:]
        chosen = self.children_of.index_select(0, informative).reshape(-1)
        x, _ = self.trunk(self.tokens(fine.index_select(0, chosen), embedded, kept), self.geo.depth)
        return self.net.answer(self.net.norm(x, "norm"))


class LeanCoarse(Graph):
    """DeiT: the last block for the class token only; its input and its keys and values go on to the fine graph."""

    def forward(self, image):
        last = self.geo.depth - 1
        embedded = self.embed_coarse(image)
        x, average = self.trunk(embedded, last)
        kv = self.keys_values(x, last)
        cls, attention = self.last_rows(x[:1], kv, last)
        average = BETA * average + (1 - BETA) * attention[:, 0].mean(0)
        return self.net.linear(self.net.norm(cls, "norm")[0], "head"), average[1:], x, kv, embedded


class LeanFine(Graph):
    """DeiT and LV-ViT; `state` is `x, kv` of `LeanCoarse`, or the features where all rows are there (LV-ViT)."""

    def forward(self, image, informative, kept, embedded, *state):
        net, last = self.net, self.geo.depth - 1
        if self.geo.lvvit:
            features = state[0].index_select(0, informative + 1)
        else:
            x, kv = state
            features = net.norm(self.last_rows(x.index_select(0, informative + 1), kv, last)[0], "norm")
        chosen = self.children_of.index_select(0, informative).reshape(-1)
        reused = self.reuse(features)[:, None].expand(-1, 4, -1).reshape(-1, self.geo.width)
        fine = self.patches_of(image, chosen) + reused + self.positions(1).index_select(0, chosen + 1)
        x = self.tokens(fine, embedded, kept)
        if self.geo.lvvit:
            return net.answer(net.norm(self.trunk(x, last + 1)[0], "norm"))
        x, _ = self.trunk(x, last)
        cls, _ = self.last_rows(x[:1], self.keys_values(x, last), last)
        return net.linear(net.norm(cls, "norm")[0], "head")


class Static(Graph):
    """The baseline: one pass over all fine patches."""

    def forward(self, image):
        x = torch.cat((self.net.w["cls_token"][0], self.net.patches(image))) + self.positions(1)
        return self.net.answer(self.net.norm(self.trunk(x, self.geo.depth)[0], "norm"))


def executed_flop(geo):
    """Floating-point operations that the engine executes in each stage, with its exact savings: two a multiply-accumulate."""
    c, hidden, k, cells = geo.width, geo.hidden, geo.informative, geo.grid**2
    coarse_n, fine_n = 1 + cells, 1 + 4 * k + cells - k
    rows = lambda n, keys: n * (2 * c * c + 2 * keys * c + 2 * c * hidden)  # queries, projection, attention, MLP
    trunk = lambda n, last: (geo.depth - 1) * (rows(n, n) + 2 * n * c * c) + rows(last, n) + 2 * n * c * c
    head = c * geo.classes
    if geo.lvvit:
        stem = lambda half: half * half * geo.stem * (3 * 49 + 18 * geo.stem)
        patch = geo.stem * (geo.patch // 2) ** 2 * c
        coarse = stem(geo.fine_side // 4) + cells * patch + trunk(coarse_n, coarse_n) + coarse_n * head
        fine = stem(geo.fine_side // 2) + 4 * k * patch + trunk(fine_n, fine_n) + fine_n * head + 2 * k * c * hidden
    else:
        patch = 3 * geo.patch**2 * c
        coarse = cells * patch + trunk(coarse_n, 1) + head
        fine = 4 * k * patch + trunk(fine_n, 1) + head + 2 * k * c * hidden + rows(k, coarse_n)
    return {"coarse": 2 * coarse, "fine": 2 * fine}
