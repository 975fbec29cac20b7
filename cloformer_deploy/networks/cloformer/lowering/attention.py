"""Forms of the global attention, one per memory layout. All take and give what `GlobalAttention` does."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from cloformer_deploy.lowering.shapes import sizes
from cloformer_deploy.lowering.softmax import MaximumSubtracted
from cloformer_deploy.networks.cloformer.attention import CloAttention, GlobalAttention

BLOCK_LOGITS = 40_000
"""Most attention logits that `BlockwiseAttention` computes at once. Softmax has them in 32 bits, and an on-chip memory
of 384 KB, which compilers for Ethos-U assume, holds two such tensors."""
PARTS = 4
MOST_KEYS = 64
"""Most keys that `KeysFirstAttention` is used with: in ONNX Runtime with 196 it is slower, with 784 four times."""


class KeysFirstAttention(GlobalAttention, MaximumSubtracted):
    """For CPUs: logits (B, heads, keys, queries), so that the weights are read along the queries, untransposed.

    The softmax, whose kernels want the keys last, is written out. Its sums are a product with ones, which ONNX Runtime
    computes faster than ReduceSum over that axis, and litert-torch makes a sum; its division comes after the product
    with the values, which has dim_head rows instead of one for every key. There are ones for each head: OpenCV's
    product does not repeat those of one.

    Args:
        otherwise: the form for more than `MOST_KEYS` keys, with which this one is slower.
    """

    def __init__(self, otherwise: GlobalAttention) -> None:
        super().__init__(otherwise.heads)
        self.otherwise = otherwise

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        if math.prod(sizes(kv)[2:]) > MOST_KEYS:
            attended: Tensor = self.otherwise(q, kv)
            return attended
        shape = sizes(q)
        batch, channels = shape[:2]
        queries = q.reshape(batch, self.heads, channels // self.heads, -1)
        keys, values = kv.reshape(batch, 2 * self.heads, channels // self.heads, -1).chunk(2, dim=1)
        logits = self._rows(kv, keys) @ queries
        weights = torch.exp(logits if self.bounded else logits - logits.amax(dim=2, keepdim=True))
        sums = weights.new_ones(1, self.heads, 1, sizes(weights)[2]) @ weights
        return (values @ weights / sums).reshape(shape)

    def _rows(self, kv: Tensor, keys: Tensor) -> Tensor:
        """Return keys (B, heads, dim_head, keys), which are a part of `kv`, as rows: (B, heads, keys, dim_head)."""
        return keys.transpose(2, 3)


class FewKeysFirstAttention(KeysFirstAttention):
    """For TFLite, whose convolutions give NHWC: the keys of a single head are rows of that, untransposed.

    The transpose would become a flag of the product, and XNNPACK cannot compute a flagged product of 4 and 2 dimensions
    in float16: it then refuses the whole file.
    """

    def _rows(self, kv: Tensor, keys: Tensor) -> Tensor:
        """See `KeysFirstAttention._rows`."""
        if self.heads > 1:
            return super()._rows(kv, keys)
        batch, channels = sizes(kv)[:2]
        return kv.permute(0, 2, 3, 1).reshape(batch, 1, -1, channels)[..., : channels // 2]


class ChannelsLastAttention(GlobalAttention):
    """For TFLite: per head (B, heads, H W, dim_head), which with one head is NHWC as it is.

    A batched product whose batch is 1 becomes a FULLY_CONNECTED of two computed operands, which XNNPACK does not take:
    a single head's queries, if their number is even, are therefore halved into a batch of two, each with the same keys
    and values.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        batch, channels, height, width = sizes(q)
        queries = self._per_head(q, self.heads)
        keys, values = self._per_head(kv, 2 * self.heads).chunk(2, dim=1)
        if self.heads == 1 and height * width % 2 == 0:
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
        batch, channels, height, width = sizes(x)
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
    """For Ethos-U: heads in groups, and of many queries one head in blocks, as `docs/npu.md` has measured.

    What is computed at once has at most `BLOCK_LOGITS` logits. Groups are slices of the channels; a group of one head
    needs no transpose. The queries of a single head are a batch of `PARTS`, since the product of two computed matrices
    is slower than that of a batch of them.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        batch, channels, height, width = sizes(q)
        queries, keys = height * width, math.prod(sizes(kv)[2:])
        count = min(math.ceil(self.heads * queries * keys / BLOCK_LOGITS), self.heads)
        if count == 1 and (self.heads > 1 or queries * keys <= BLOCK_LOGITS):
            return super().forward(q, kv)
        if count == self.heads and queries % PARTS:
            return super().forward(q, kv)
        each = channels // self.heads
        tokens = q.permute(0, 2, 3, 1).reshape(batch, 1, queries, channels)
        pairs = kv.permute(0, 2, 3, 1).reshape(batch, 1, keys, 2 * channels)
        ends = [self.heads * index // count * each for index in range(count + 1)]
        attended = []
        for start, end in pairwise(ends):
            part, key = tokens[..., start:end], pairs[..., start:end]
            value = pairs[..., channels + start : channels + end]
            several = (end - start) // each
            attended.append(self._heads(part, key, value, several) if several > 1 else self._head(part, key, value))
        return _joined(attended, dim=3).reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _heads(self, queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        """Attend with several heads at once: (B, 1, N, C), (B, 1, K, C) twice, to (B, 1, N, C)."""
        whole = sizes(queries)
        shape = (whole[0], -1, heads, whole[3] // heads)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (queries, keys, values))
        return self._weighted(q @ k.transpose(2, 3), v).transpose(1, 2).reshape(whole)

    def _head(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend with one head: (B, 1, N, C), (B, 1, K, C) twice, to (B, 1, N, C)."""
        whole = sizes(queries)
        batch, _, count, channels = whole
        rows = count // PARTS
        block = _block(rows, sizes(keys)[2])
        parts = queries.reshape(batch, PARTS, rows, channels)
        turned, repeated = (torch.cat([part] * PARTS, dim=1) for part in (keys.transpose(2, 3), values))
        blocks = (parts[:, :, row : row + block] for row in range(0, rows, block))
        return _joined([self._weighted(part @ turned, repeated) for part in blocks], dim=2).reshape(whole)


def _block(rows: int, keys: int) -> int:
    """Return the most rows of each part that divide `rows` and have few enough logits."""
    most = max(BLOCK_LOGITS // (PARTS * keys), 1)
    return next(size for size in range(min(rows, most), 0, -1) if rows % size == 0)


class HeadByHeadAttention(GlobalAttention):
    """For the Neural Engine: one head at a time in (B, C, 1, S), the layout its channels-first memory is made for.

    After Apple's ml-ane-transformers ("Deploying Transformers on the Apple Neural Engine", 2022): the products are the
    einsum nchw,nwhu->nchu, which ML programs have as an operator, and the softmax is over the channels. Only the
    keys, the smallest of the three, are transposed.
    """

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """See `GlobalAttention.forward`."""
        shape = sizes(q)
        width = shape[1] // self.heads
        queries = _split(q.reshape(*shape[:2], 1, -1), width, dim=1)
        k, v = kv.reshape(*sizes(kv)[:2], 1, -1).chunk(2, dim=1)
        keys, values = _split(k.transpose(1, 3), width, dim=3), _split(v, width, dim=1)
        return _joined([_attend(*head) for head in zip(queries, keys, values, strict=True)], dim=1).reshape(shape)


def _split(whole: Tensor, width: int, dim: int) -> Sequence[Tensor]:
    """Split a tensor into parts; litert-torch cannot convert a split into one."""
    return (whole,) if sizes(whole)[dim] == width else torch.split(whole, width, dim)


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate parts; of one part alone converters make a copy, or nothing."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend with one head: (B, C, 1, S), (B, K, 1, C) and (B, C, 1, K) to (B, C, 1, S)."""
    weights = torch.einsum("nchw,nwhu->nchu", keys, queries).softmax(dim=1)
    return torch.einsum("nchw,nwhu->nchu", values, weights)


def attend_keys_first(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `KeysFirstAttention`, in place; of many keys it stays as it is."""
    _replace(model, KeysFirstAttention)


def attend_few_keys_first(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `FewKeysFirstAttention`, in place; with many keys `LateDivisionAttention`."""
    _replace(model, lambda before: FewKeysFirstAttention(LateDivisionAttention(before.heads)))


def attend_in_blocks(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `BlockwiseAttention`, in place."""
    _replace(model, lambda before: BlockwiseAttention(before.heads))


def attend_head_by_head(model: nn.Module) -> None:
    """Replace every `GlobalAttention` by `HeadByHeadAttention`, in place."""
    _replace(model, lambda before: HeadByHeadAttention(before.heads))


def _replace(model: nn.Module, form: Callable[[GlobalAttention], GlobalAttention]) -> None:
    """Put what `form` makes of it in the place of every `GlobalAttention`."""
    for module in list(model.modules()):
        if isinstance(module, CloAttention) and module.global_heads:
            module.global_attention = form(cast(GlobalAttention, module.global_attention))
