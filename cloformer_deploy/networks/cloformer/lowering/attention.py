"""Forms of the global attention, one per memory layout. All take and give what `GlobalAttention` does."""

from typing import cast

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.softmax import MaximumSubtracted
from cloformer_deploy.networks.cloformer.attention import CloAttention, GlobalAttention

BATCHED_LOGITS = 10_000
"""Most logits of a head up to which `BlockwiseAttention` computes all heads at once."""
BLOCK_LOGITS = 40_000
"""Most logits that it computes at once otherwise."""
PARTS = 4


class KeysFirstAttention(GlobalAttention):
    """For ONNX Runtime: logits (B, heads, keys, queries), so that every tensor stays channels-first, untransposed.

    The softmax, whose kernel wants the keys last, is written out. Its sums are a product with ones, which is faster
    than ReduceSum over that axis; its division comes after the product with the values, which has dim_head rows
    instead of one for every key. There are ones for each head: OpenCV's product does not repeat those of one.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        batch, channels = q.shape[:2]
        queries = q.reshape(batch, self.heads, channels // self.heads, -1)
        keys, values = kv.reshape(batch, 2 * self.heads, channels // self.heads, -1).chunk(2, dim=1)
        logits = keys.transpose(2, 3) @ queries
        weights = torch.exp(logits - logits.amax(dim=2, keepdim=True))
        sums = weights.new_ones(1, self.heads, 1, weights.shape[2]) @ weights
        return (values @ weights / sums).reshape(q.shape)


class ChannelsLastAttention(GlobalAttention):
    """For TFLite: per head (B, heads, H W, dim_head), which with one head is NHWC as it is.

    A batched product whose batch is 1 becomes a FULLY_CONNECTED of two computed operands, which XNNPACK does not
    take: a single head's queries are therefore halved into a batch of two, each with the same keys and values.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        batch, channels, height, width = q.shape
        queries = self._per_head(q, self.heads)
        keys, values = self._per_head(kv, 2 * self.heads).chunk(2, dim=1)
        if self.heads == 1:
            queries = queries.reshape(batch, 2, -1, channels)
            keys, values = (torch.cat([part, part], dim=1) for part in (keys, values))
        attended = self._weighted(queries @ keys.transpose(2, 3), values)
        if self.heads > 1:
            attended = attended.transpose(1, 2)
        return attended.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _weighted(self, logits: Tensor, values: Tensor) -> Tensor:
        return logits.softmax(dim=3) @ values

    @staticmethod
    def _per_head(x: Tensor, heads: int) -> Tensor:
        """Map (B, C, H, W) to (B, heads, H W, C / heads)."""
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1)
        if heads == 1:
            return rows.reshape(batch, 1, height * width, channels)
        return rows.reshape(batch, height * width, heads, channels // heads).transpose(1, 2)


class LateDivisionAttention(ChannelsLastAttention, MaximumSubtracted):
    """For XNNPACK: the softmax written out, with its division after the product with the values, which is smaller."""

    def _weighted(self, logits: Tensor, values: Tensor) -> Tensor:
        weights = torch.exp(logits if self.bounded else logits - logits.amax(dim=3, keepdim=True))
        return weights @ values / weights.sum(dim=3, keepdim=True)


class BlockwiseAttention(ChannelsLastAttention):
    """For Ethos-U: many queries go head by head and in blocks, as `docs/npu.md` has measured.

    Heads are slices of the channels, which cost no transpose. A block's logits are at most `BLOCK_LOGITS`: four bytes
    each, so many as the compiler keeps in an on-chip memory of 384 KB. Its queries are a batch of `PARTS`, since the
    product of two computed matrices is slower than that of a batch of them.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        batch, channels, height, width = q.shape
        queries, keys = height * width, kv.shape[2] * kv.shape[3]
        if queries * keys <= BATCHED_LOGITS or queries % PARTS:
            return super().forward(q, kv)
        rows, each = queries // PARTS, channels // self.heads
        block = next(size for size in range(rows, 0, -1) if rows % size == 0 and _few(size * PARTS * keys, size))
        tokens = q.permute(0, 2, 3, 1).reshape(batch, PARTS, rows, channels)
        pairs = kv.permute(0, 2, 3, 1).reshape(batch, 1, keys, 2 * channels)
        attended = []
        for start in range(0, channels, each):
            key, value = (pairs[..., first : first + each] for first in (start, channels + start))
            turned, values = (torch.cat([part] * PARTS, dim=1) for part in (key.transpose(2, 3), value))
            blocks = (tokens[:, :, row : row + block, start : start + each] for row in range(0, rows, block))
            attended.append(torch.cat([self._weighted(part @ turned, values) for part in blocks], dim=2))
        return torch.cat(attended, dim=3).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _few(logits: int, size: int) -> bool:
    return logits <= BLOCK_LOGITS or size == 1


class HeadByHeadAttention(GlobalAttention):
    """For the Neural Engine: one head at a time in (B, C, 1, S), the layout its channels-first memory is made for.

    After Apple's ml-ane-transformers ("Deploying Transformers on the Apple Neural Engine", 2022): the products are the
    einsum nchw,nwhu->nchu, which ML programs have as an operator, and the softmax is over the channels. Only the
    keys, the smallest of the three, are transposed.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        width = q.shape[1] // self.heads
        queries = torch.split(q.reshape(*q.shape[:2], 1, -1), width, dim=1)
        k, v = kv.reshape(*kv.shape[:2], 1, -1).chunk(2, dim=1)
        keys, values = torch.split(k.transpose(1, 3), width, dim=3), torch.split(v, width, dim=1)
        return torch.cat([_attend(*head) for head in zip(queries, keys, values, strict=True)], dim=1).reshape(q.shape)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend with one head: (B, C, 1, S), (B, K, 1, C) and (B, C, 1, K) to (B, C, 1, S)."""
    weights = torch.einsum("nchw,nwhu->nchu", keys, queries).softmax(dim=1)
    return torch.einsum("nchw,nwhu->nchu", values, weights)


def attend_keys_first(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `KeysFirstAttention`, in place."""
    _replace(model, KeysFirstAttention)


def attend_in_blocks(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `BlockwiseAttention`, in place."""
    _replace(model, BlockwiseAttention)


def attend_with_late_division(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `LateDivisionAttention`, in place."""
    _replace(model, LateDivisionAttention)


def attend_head_by_head(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `HeadByHeadAttention`, in place."""
    _replace(model, HeadByHeadAttention)


def _replace(model: nn.Module, form: type[GlobalAttention]) -> None:
    for module in model.modules():
        if isinstance(module, CloAttention) and module.global_heads:
            module.global_attention = form(cast(GlobalAttention, module.global_attention).heads)
