"""CF-ViT in PyTorch as plain functions over a dict of tensors named as in the authors' checkpoints. Shared by `make_fixtures.py` and
`benches/peers/peers.py`."""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

ALPHA, BETA, FIRST_ATTENTION_BLOCK = 0.5, 0.99, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Geometry:
    family: str
    grid: int
    width: int
    heads: int
    ratio: float
    depth: int = 5
    patch: int = 16
    classes: int = 20
    stem: int = 64

    @property
    def lvvit(self):
        return self.family == "cf_lvvit"

    @property
    def hidden(self):
        return int(self.width * self.ratio)

    @property
    def fine_side(self):
        return 2 * self.grid * self.patch

    @property
    def informative(self):
        return math.ceil(ALPHA * self.grid**2)


class Network:
    """Both stages for one picture. `w`: name -> tensor; activations are `[tokens, width]`."""

    def __init__(self, geometry, weights):
        self.geo, self.w = geometry, weights
        self.eps = 1e-5 if geometry.lvvit else 1e-6
        self.residual = 2.0 if geometry.lvvit else 1.0

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def mlp(self, x, name):
        return self.linear(F.gelu(self.linear(x, name + ".fc1")), name + ".fc2")

    def attention(self, x, name):
        """The attention's output, and the class token's row of weights averaged over the heads."""
        tokens, width = x.shape
        heads = self.geo.heads
        q, k, v = self.linear(x, name + ".qkv").view(tokens, 3, heads, width // heads).permute(1, 2, 0, 3)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
        mixed = (weights @ v).permute(1, 0, 2).reshape(tokens, width)
        return self.linear(mixed, name + ".proj"), weights[:, 0].mean(0)

    def trunk(self, x):
        """All blocks and the final norm; also the global class attention over the patch tokens."""
        average = torch.zeros(len(x), dtype=x.dtype)
        for i in range(self.geo.depth):
            block = f"blocks.{i}"
            out, row = self.attention(self.norm(x, block + ".norm1"), block + ".attn")
            x = x + out / self.residual
            x = x + self.mlp(self.norm(x, block + ".norm2"), block + ".mlp") / self.residual
            if i >= FIRST_ATTENTION_BLOCK:
                average = BETA * average + (1 - BETA) * row
        return self.norm(x, "norm"), average[1:]

    def patches(self, image):
        """`[patches, width]`, row-major."""
        x, w = image[None], self.w
        if self.geo.lvvit:
            for i, (stride, pad) in enumerate(((2, 3), (1, 1), (1, 1)), 1):
                bn = f"patch_embed.bn{i}."
                x = F.conv2d(x, w[f"patch_embed.conv{i}.weight"], stride=stride, padding=pad)
                x = F.batch_norm(x, w[bn + "running_mean"], w[bn + "running_var"], w[bn + "weight"], w[bn + "bias"]).relu()
        kernel = w["patch_embed.proj.weight"]
        return F.conv2d(x, kernel, w["patch_embed.proj.bias"], stride=kernel.shape[-1])[0].flatten(1).T

    def answer(self, features):
        logits = self.linear(features[0], "head")
        if self.geo.lvvit:
            logits = logits + 0.25 * self.linear(features[1:], "aux_head").amax(0)
        return logits

    def coarse(self, image):
        """Logits, class attention, features after the norm, and the sequence that went into the blocks."""
        positions = self.w["pos_embed_list.0"][0]
        embedded = torch.cat((self.w["cls_token"][0], self.patches(image))) + positions
        features, attention = self.trunk(embedded)
        return self.answer(features) / (1.25 if self.geo.lvvit else 1.0), attention, features, embedded

    def fine(self, image, informative, features, embedded):
        grid, positions = self.geo.grid, self.w["pos_embed_list.1"][0]
        reuse = self.mlp(self.norm(features[1:], "reuse_block.0"), "reuse_block.1")
        fine = self.patches(image) + positions[1:]
        rows = [self.w["cls_token"][0, 0] + positions[0]]
        for cell in range(grid * grid):
            if cell not in informative:
                rows.append(embedded[1 + cell])
                continue
            corner = 2 * (cell // grid) * 2 * grid + 2 * (cell % grid)
            rows += [fine[corner + step] + reuse[cell] for step in (0, 1, 2 * grid, 2 * grid + 1)]
        return self.answer(self.trunk(torch.stack(rows))[0])
