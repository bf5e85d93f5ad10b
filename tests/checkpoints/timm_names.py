"""A ViT with timm's names and its computation, written from the papers: MAE, DeiT, DINO and DINOv2 have the same."""

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, DEPTH = 16, 2, 3


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, scales):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = MLP()
        self.ls1, self.ls2 = (LayerScale() if scales else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class TimmViT(nn.Module):
    """ViT for images of 32 x 32 pixels with tokens of 8 x 8.

    Args:
        classes (int): Number of classes, 0 for a backbone without a head.
        pooled (bool): Whether the norm follows mean pooling, as in MAE's fine-tuning.
        scales (bool): Whether there is LayerScale, as in DINOv2.
        class_position (bool): Whether the class token has a position, which it has not in DeiT III.
    """

    def __init__(self, classes=5, pooled=False, scales=False, class_position=True):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 16 + class_position, WIDTH))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, 8, 8)
        self.blocks = nn.ModuleList(Block(scales) for _ in range(DEPTH))
        self.norm = nn.Identity() if pooled else nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc_norm = nn.LayerNorm(WIDTH, eps=1e-6) if pooled else nn.Identity()
        self.head = nn.Linear(WIDTH, classes) if classes else nn.Identity()
        self.pooled, self.class_position = pooled, class_position

    def features(self, images):
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        cls_token = self.cls_token.expand(len(x), -1, -1)
        if self.class_position:
            x = torch.cat((cls_token, x), 1) + self.pos_embed
        else:
            x = torch.cat((cls_token, x + self.pos_embed), 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.fc_norm(x[:, 1:].mean(1) if self.pooled else x[:, 0])

    def forward(self, images):
        return self.head(self.features(images))
