"""CATANet: content-aware token aggregation (Liu et al., CVPR 2025, arXiv:2503.06896).

Pixels are tokens.  Each block sorts them by the nearest of its learned centres, lets neighbours in that order
attend to each other and to the centres, and then attends within windows of the image.  The names of the tensors
follow the official code (EquationWalker/CATANet), and so do the values, but for one row or column of features
where three windows meet (sides that leave remainder 3 modulo the windows' step), which the official code weighs
3/4 and this one averages.  Every index is computed from integers and used to gather, so that the order of the
tokens is the same in all runtimes and survives 8-bit activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models._windows import Cover
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["CataNet", "LocalAttention", "TokenAggregation", "build", "from_state"]

_HEADS = 4
_CENTRES = (16, 32, 64, 128)  # of blocks 1 to 4, and again from block 5 on
_GROUP = (256, 128, 64, 32)
_WINDOW = (16, 20, 24, 28)
_ITERATIONS = 5  # of the clustering, for each training step
_DECAY = 0.999  # of the centres' moving average
_OVERLAP = 2  # pixels that neighbouring windows share
_STD = 0.02  # of fresh linear maps


class _ConvFeedForward(nn.Module):
    """Linear, GELU, depthwise 5x5 with GELU and a skip, linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = _Depthwise(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        wide = F.gelu(self.fc1(tokens))
        y: Tensor = self.fc2(wide + _tokens(self.dwconv(_image(wide, size))))
        return y


class _Depthwise(nn.Module):
    """The depthwise convolution under its official name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Sequential(nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.depthwise_conv(x)
        return y


class _WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of a window, (N, T, C) to the same shape."""

    def __init__(self, channels: int, query: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, query, bias=False)
        self.to_k = nn.Linear(channels, query, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (_heads(layer(tokens)) for layer in (self.to_q, self.to_k, self.to_v))
        y: Tensor = self.proj(_unite(F.scaled_dot_product_attention(q, k, v)))
        return y


class _PreNorm(nn.Module):
    """A normalisation and what it feeds."""

    def __init__(self, channels: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fn = inner

    def forward(self, tokens: Tensor, *size: tuple[int, int]) -> Tensor:
        y: Tensor = self.fn(self.norm(tokens), *size)
        return y


class LocalAttention(nn.Module):
    """Attention within windows that overlap by two pixels, then the feed-forward network (section 3.4, LRSA).

    Args:
        channels: C.
        query: width of queries and keys.
        hidden: width inside the feed-forward network.
        window: side of a window; in an image smaller than that, the tokens of the last row or column repeat.
    """

    def __init__(self, channels: int, query: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.layer = nn.ModuleList(
            [
                _PreNorm(channels, _WindowAttention(channels, query)),
                _PreNorm(channels, _ConvFeedForward(channels, hidden)),
            ]
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (N, H*W, C) of an image of the size (H, W) to the same shape."""
        attention, feed_forward = self.layer
        batch, _, channels = tokens.shape
        rows, columns = (Cover(side, self.window, self.window - _OVERLAP, tokens.device) for side in size)
        inside = rows.inside[:, None, :, None] * size[1] + columns.inside[None, :, None, :]
        windows = tokens.index_select(1, inside.reshape(-1)).reshape(-1, self.window**2, channels)
        done = (attention(windows) + windows).reshape(batch, -1, channels)
        corners = [done.index_select(1, place) for place in self._places(rows, columns)]
        tokens = (corners[0] + corners[1] + corners[2] + corners[3]) * 0.25
        y: Tensor = feed_forward(tokens, size) + tokens
        return y

    def _places(self, rows: Cover, columns: Cover) -> list[Tensor]:
        """Where each pixel is among the windows' tokens: in the first and the last window that hold it, each axis."""
        area = self.window**2
        return [
            (
                (row[0] * (columns.count * area) + row[1] * self.window)[:, None] + (column[0] * area + column[1])
            ).reshape(-1)
            for row in (rows.first, rows.last)
            for column in (columns.first, columns.last)
        ]


class _GroupAttention(nn.Module):
    """Attention of each group of sorted tokens to itself, the next group, and all centres (section 3.3)."""

    def __init__(self, channels: int, query: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.to_q = nn.Linear(channels, query, bias=False)
        self.to_k = nn.Linear(channels, query, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor, order: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, length, channels = tokens.shape
        groups = (length + self.group - 1) // self.group
        place = torch.arange((groups + 1) * self.group, device=tokens.device)
        mirrored = torch.minimum(place, 2 * length - 1 - place).clamp(min=0)  # beyond the end, back from it
        padded = _pick(tokens, order.index_select(1, mirrored))
        k, v = (self._with_next(layer(padded), groups) for layer in (self.to_k, self.to_v))
        q = self.to_q(padded[:, : groups * self.group])
        inner = F.scaled_dot_product_attention(_heads(q.reshape(batch * groups, self.group, -1)), k, v)
        shape = (batch, -1, -1, -1)
        outer = F.scaled_dot_product_attention(_heads(q), keys.expand(*shape), values.expand(*shape))
        together = _unite(inner).reshape(batch, groups * self.group, channels) + _unite(outer)
        y: Tensor = self.proj(_pick(together, _sorting(order)))
        return y

    def _with_next(self, tokens: Tensor, groups: int) -> Tensor:
        """(N, (groups+1)*group, K) to heads (N*groups, heads, 2*group, K/heads)."""
        parts = tokens.reshape(-1, groups + 1, self.group, tokens.shape[-1])
        pairs = torch.cat([parts[:, :-1], parts[:, 1:]], 2)
        return _heads(pairs.reshape(-1, 2 * self.group, tokens.shape[-1]))


class _CentreMaps(nn.Module):
    """Keys and values of the centres, (1, heads, M, width/heads) each."""

    def __init__(self, channels: int, query: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(channels, query, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)

    def forward(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        return _heads(self.to_k(centres)[None]), _heads(self.to_v(centres)[None])


class TokenAggregation(nn.Module):
    """Groups the tokens by their nearest centre, attends within the groups, then the feed-forward network.

    In training mode the centres are refined by five rounds of spherical k-means on the batch, and their moving
    average is kept (section 3.2, equations 2 to 5); in evaluation mode that average serves every image.

    Args:
        channels: C.
        query: width of queries and keys.
        hidden: width inside the feed-forward network.
        centres: how many.
        group: tokens in a group.
    """

    means: Tensor
    initted: Tensor

    def __init__(self, channels: int, query: int, hidden: int, centres: int, group: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mlp = _PreNorm(channels, _ConvFeedForward(channels, hidden))
        self.irca_attn = _CentreMaps(channels, query)
        self.iasa_attn = _GroupAttention(channels, query, group)
        self.register_buffer("means", torch.randn(centres, channels))
        self.register_buffer("initted", torch.tensor(False))
        self.conv1x1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (N, H*W, C) of an image of the size (H, W) to the same shape."""
        normed = self.norm(tokens)
        centres = self._refined(normed) if self.training else self.means
        keys, values = self.irca_attn(centres)
        nearest = torch.matmul(normed.detach(), F.normalize(centres.detach(), dim=-1).T).argmax(-1)
        length = tokens.shape[1]
        order = _sorting(nearest * length + torch.arange(length, device=tokens.device))  # a tie keeps its place
        attended = self.iasa_attn(normed, order, keys, values)
        tokens = tokens + _tokens(self.conv1x1(_image(attended, size)))
        y: Tensor = self.mlp(tokens, size) + tokens
        return y

    def _refined(self, normed: Tensor) -> Tensor:
        """Unit centres (M, C), differentiable in the last round; their moving average is updated."""
        tokens = F.normalize(normed, dim=-1).flatten(0, 1)
        centres = self.means if self.initted else self._first(normed.detach())
        for _ in range(_ITERATIONS - 1):
            centres = _round(tokens.detach(), F.normalize(centres, dim=-1))
        centres = _round(tokens, F.normalize(centres, dim=-1))
        with torch.no_grad():
            self.means.copy_(self.means.lerp(centres, 1 - _DECAY) if self.initted else centres)
            self.initted.fill_(True)
        return centres

    def _first(self, normed: Tensor) -> Tensor:
        """(M, C): means over equal stretches of the images, the end mirrored on to a multiple of M."""
        count, length = len(self.means), normed.shape[1]
        stretch = length // count + 1
        place = torch.arange(count * stretch, device=normed.device)
        place = torch.minimum(place, 2 * length - 1 - place).clamp(min=0)
        return normed.index_select(1, place).reshape(-1, count, stretch, normed.shape[2]).mean((0, 2))


class CataNet(nn.Module):
    """CATANet.

    Args:
        scale: enlargement, 2 to 4.
        channels: width C.
        query: width of queries and keys.
        hidden: width inside the feed-forward networks.
        blocks: how many; centres, groups and windows go by their number.
    """

    def __init__(self, scale: int, channels: int, query: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.first_conv = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    TokenAggregation(channels, query, hidden, _CENTRES[k % 4], _GROUP[k % 4]),
                    LocalAttention(channels, query, hidden, _WINDOW[k % 4]),
                ]
            )
            for k in range(blocks)
        )
        self.mid_convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        if scale == 4:
            self.upconv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.upconv2 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        else:
            self.upconv = nn.Conv2d(channels, scale**2 * channels, 3, padding=1)
        self.last_conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        size = (x.shape[2], x.shape[3])
        shallow = self.first_conv(x)
        deep = shallow
        for block, convolution in zip(self.blocks, self.mid_convs, strict=True):
            tokens = _tokens(deep)
            for part in block.children():
                tokens = part(tokens, size)
            deep = deep + convolution(_image(tokens, size))
        enlarged = deep + shallow
        for layer in [self.upconv1, self.upconv2] if self.scale == 4 else [self.upconv]:
            enlarged = F.leaky_relu(F.pixel_shuffle(layer(enlarged), 2 if self.scale == 4 else self.scale), 0.1)
        y: Tensor = self.last_conv(enlarged)
        return y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


def _tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H*W, C)."""
    return x.flatten(2).transpose(1, 2)


def _image(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H*W, C) to (N, C, H, W)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], size[0], size[1])


def _heads(tokens: Tensor) -> Tensor:
    """(N, T, K) to (N, heads, T, K/heads)."""
    return tokens.reshape(tokens.shape[0], tokens.shape[1], _HEADS, -1).transpose(1, 2)


def _unite(heads: Tensor) -> Tensor:
    """(N, heads, T, K) to (N, T, heads*K)."""
    return heads.transpose(1, 2).flatten(2)


def _sorting(keys: Tensor) -> Tensor:
    """Places (N, L) that sort distinct integers (N, L); by TopK, which all formats have, unlike sorting."""
    return torch.topk(keys, keys.shape[1], dim=1, largest=False).indices


def _pick(tokens: Tensor, places: Tensor) -> Tensor:
    """Rows (N, P, C) of the tokens (N, L, C) at places (N, P)."""
    batch, length, channels = tokens.shape
    offset = torch.arange(batch, device=tokens.device)[:, None] * length
    rows = tokens.reshape(batch * length, channels).index_select(0, (places + offset).reshape(-1))
    return rows.reshape(batch, -1, channels)


def _round(tokens: Tensor, centres: Tensor) -> Tensor:
    """One round of spherical k-means: tokens (L, C) and centres (M, C), all of length 1; the new centres.

    A centre without tokens stays.
    """
    nearest = torch.matmul(tokens.detach(), centres.detach().T).argmax(1)
    sums = torch.zeros_like(centres).index_add(0, nearest, tokens)
    counts = torch.bincount(nearest, minlength=len(centres))
    return torch.where(counts[:, None] == 0, centres, F.normalize(sums, dim=-1))


def _initialise(module: nn.Module) -> None:
    """The first values of linear maps; other layers keep torch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def from_state(state: Mapping[str, Tensor], path: Path) -> CataNet:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not CATANet weights.
    """
    first, means, query, hidden = (
        state.get(k)
        for k in (
            "first_conv.weight",
            "blocks.0.0.means",
            "blocks.0.0.iasa_attn.to_q.weight",
            "blocks.0.0.mlp.fn.fc1.weight",
        )
    )
    single = state.get("upconv.weight")
    if (
        first is None
        or means is None
        or query is None
        or hidden is None
        or (single is None and "upconv1.weight" not in state)
    ):
        found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
        raise WeightsError(
            f"weights {path} are not CATANet's: expected first_conv, blocks with token centres, mid_convs, upconv or "
            f"upconv1 and upconv2, last_conv; found {found}; choose another --model"
        )
    channels = first.shape[0]
    scale = 4 if single is None else round((single.shape[0] / channels) ** 0.5)
    if first.shape[1] != 3:
        raise WeightsError(
            f"weights {path} take {first.shape[1]} channels, expected 3 (RGB); use a checkpoint of the RGB network"
        )
    blocks = len({k.split(".")[1] for k in state if k.startswith("mid_convs.")})
    module = CataNet(scale, channels, query.shape[0], hidden.shape[0], blocks)
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 40, query: int = 36, hidden: int = 96, blocks: int = 8) -> nn.Module:
    """CATANet with fresh values.

    Raises:
        ValueError: a scale that it does not have, or widths that its four heads cannot share.
    """
    if scale not in (2, 3, 4):
        raise ValueError(f"scale {scale}; give 2, 3 or 4")
    if channels % _HEADS or query % _HEADS:
        raise ValueError(f"channels {channels} and query {query} must be multiples of {_HEADS}, the number of heads")
    return CataNet(scale, channels, query, hidden, blocks).train()


MODELS.add("catanet")(
    Family(
        title="CATANet, x2 to x4 super-resolution, attention among similar tokens (CVPR 2025, arXiv:2503.06896)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("first_conv.weight", "blocks.0.0.means", "blocks.0.0.iasa_attn.to_q.weight", "last_conv.weight"),
    )
)
