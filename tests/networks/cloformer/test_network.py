"""CloFormer as a network: weights are identified by names and shapes, and modules are named as the published ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cloformer_deploy.backends.registry import BACKENDS, lower
from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.lowering.batch_norm import fold_batch_norm
from cloformer_deploy.networks import NETWORKS, all_variants, network_of
from cloformer_deploy.networks.base import Balanced, GatedProduct, Identity, SoftmaxProduct
from cloformer_deploy.networks.cloformer import (
    VARIANTS,
    Architecture,
    CloAttention,
    CloFormer,
    configured,
    create_model,
)
from cloformer_deploy.networks.cloformer.body import ConvFFN
from cloformer_deploy.networks.cloformer.identification import COUNTER
from cloformer_deploy.networks.cloformer.network import CloFormerNetwork

pytestmark = pytest.mark.integration

NETWORK = CloFormerNetwork()
BLOCKS = 12
TARGETS = [(name, target) for name, item in BACKENDS.items() for target in item.targets]


def on_meta(variant: str, num_classes: int = 5) -> CloFormer:
    """Return a model without memory for its weights."""
    with torch.device("meta"):
        return create_model(variant, num_classes)


def test_it_is_registered() -> None:
    assert isinstance(NETWORKS["cloformer"], CloFormerNetwork)
    assert network_of(on_meta("xxs")) is NETWORKS["cloformer"]
    assert set(VARIANTS) <= set(all_variants())


def published(variant: str, num_classes: int = 5) -> dict[str, Any]:
    return VARIANTS[variant].of_classes(num_classes).as_json()


# Identification.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_classes", [1, 5, 1000])
def test_the_right_variant_is_found(variant: str, num_classes: int) -> None:
    shapes = {name: tuple(value.shape) for name, value in on_meta(variant, num_classes).state_dict().items()}
    said = published(variant, num_classes)
    assert list(NETWORK.state_shapes(said).items()) == list(shapes.items())
    expected = Identity("cloformer", variant, said, "classification", num_classes, 3)
    assert NETWORK.identify(shapes, None, variant) == NETWORK.identify(shapes, variant, said) == expected
    bare = NETWORK.identify(shapes, None)
    assert bare is not None
    assert replace(bare, assumed=()) == expected
    # Neither leaves a trace in the shapes.
    windows = [] if variant == "local" else [f"window_sizes {said['window_sizes']}"]
    assert list(bare.assumed) == [f"num_heads {said['num_heads']}", *windows]


def test_the_published_names_are_identified(shared: Path) -> None:
    for variant in ("xxs", "xs", "s"):
        shapes = json.loads((shared / "golden" / f"state_dict_{variant}.json").read_text())
        found = NETWORK.identify({name: tuple(shape) for name, shape in shapes.items()}, None)
        assert found is not None
        assert (found.variant, found.num_classes) == (variant, 1000)


def test_counters_may_be_missing() -> None:
    whole = NETWORK.state_shapes(published("xs"))
    shapes = {name: shape for name, shape in whole.items() if not name.endswith(COUNTER)}
    assert len(shapes) < len(whole)
    assert NETWORK.identify(shapes, None) == NETWORK.identify(whole, None)


@pytest.mark.parametrize("shapes", [{}, {"fc.weight": (1000, 512)}, {"layer1.0.conv1.weight": (64, 64, 3, 3)}], ids=len)
@pytest.mark.parametrize("variant", [None, "s"])
def test_other_networks_are_not_identified(shapes: dict[str, tuple[int, ...]], variant: str | None) -> None:
    assert NETWORK.identify(shapes, variant) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_incomplete_state_dict_is_told_against_the_nearest_variant(variant: str) -> None:
    shapes = dict(NETWORK.state_shapes(published(variant)))
    lost = [name for name in shapes if name.startswith("layers.2.blocks.1.mlp.fc1.")]
    for name in lost:
        del shapes[name]
    with pytest.raises(CheckpointError) as caught:
        NETWORK.identify(shapes, None)
    told = f"the tensors are not those of {variant}: missing 2 of {len(shapes) + 2} ({', '.join(lost)})"
    assert caught.value.message == told
    assert all(name in caught.value.hint for name in VARIANTS)


def test_an_unknown_tensor_and_a_wrong_shape_are_named() -> None:
    shapes = NETWORK.state_shapes(published("s"))
    with pytest.raises(CheckpointError, match=r"those of s: unknown 1 \(layers\.4\.norm\.weight\)"):
        NETWORK.identify({**shapes, "layers.4.norm.weight": (8,)}, None)
    with pytest.raises(CheckpointError, match=r"blocks\.0\.norm1\.bias has shape \(7,\), not \(64,\) as in s"):
        NETWORK.identify({**shapes, "layers.0.blocks.0.norm1.bias": (7,)}, None)


def test_weights_of_another_variant_than_wanted_are_refused_with_theirs() -> None:
    with pytest.raises(CheckpointError) as caught:
        NETWORK.identify(NETWORK.state_shapes(published("xs")), "s")
    assert caught.value.message == "these are xs weights, not s"
    assert caught.value.hint == "leave --variant out, or pass --variant xs"


def test_an_incomplete_state_dict_is_told_against_the_wanted_variant() -> None:
    shapes = dict(NETWORK.state_shapes(published("xs")))
    del shapes["norm.bias"]
    with pytest.raises(CheckpointError, match=r"those of s: missing 1 of \d+ \(norm\.bias\)"):
        NETWORK.identify(shapes, "s")


# Architecture.


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_architecture_says_what_the_model_is(variant: str) -> None:
    """Read off the model's own modules, stage by stage."""
    model = on_meta(variant, 7)
    found = published(variant, 7)
    assert found == json.loads(json.dumps(found))
    stages = [layer.get_submodule("blocks") for layer in model.layers]
    assert found["depths"] == [len(list(blocks.children())) for blocks in stages]
    first = [blocks.get_submodule("0") for blocks in stages]
    attentions = [attention for block in first if isinstance(attention := block.get_submodule("attn"), CloAttention)]
    assert len(attentions) == len(first)
    assert found["embed_dims"] == [block.get_parameter("norm1.weight").shape[0] for block in first]
    assert found["num_heads"] == [
        dim // attention.dim_head for dim, attention in zip(found["embed_dims"], attentions, strict=True)
    ]
    assert found["window_sizes"] == [attention.window_size for attention in attentions]
    for attention, split, kernels in zip(attentions, found["group_splits"], found["kernel_sizes"], strict=True):
        assert [heads * attention.dim_head for heads in split[:-1] if heads] == attention.local_dims
        assert split[-1] == attention.global_heads
        convs = [conv for conv in attention.convs if isinstance(conv, nn.Conv2d)]
        used = [kernel for kernel, heads in zip(kernels, split[:-1], strict=True) if heads]
        assert used == [conv.kernel_size[0] for conv in convs]
    feeds = [ffn for block in first if isinstance(ffn := block.get_submodule("mlp"), ConvFFN)]
    assert len(feeds) == len(first)
    assert found["mlp_kernel_sizes"] == [ffn.dwconv.kernel_size[0] for ffn in feeds]
    assert found["mlp_ratios"] == [ffn.fc1.out_channels // ffn.fc1.in_channels for ffn in feeds]
    projections = [
        conv.bias is not None
        for name, conv in model.named_modules()
        if isinstance(conv, nn.Conv2d) and (".qkvs." in name or ".global_" in name)
    ]
    assert projections
    assert all(bias is found["qkv_bias"] for bias in projections)
    stem = model.get_submodule("patch_embed.conv1.conv.0")
    assert isinstance(stem, nn.Conv2d)
    assert (found["in_chans"], found["num_classes"]) == (stem.in_channels, model.head.out_features)


def test_the_architecture_has_the_published_keys() -> None:
    assert set(published("xxs")) == {
        *("in_chans", "num_classes", "embed_dims", "depths", "num_heads", "group_splits", "kernel_sizes"),
        *("window_sizes", "mlp_kernel_sizes", "mlp_ratios", "qkv_bias"),
    }


# Names.


@pytest.mark.parametrize(
    ("path", "block", "part"),
    [
        ("layers.2.blocks.1", "layers.2.blocks.1", "layers.2.blocks.1$"),
        ("layers.2.blocks.11.attn.qkvs.0", "layers.2.blocks.11", "layers.2.blocks.11.attn"),
        ("layers.0.blocks.1.mlp.fc1", "layers.0.blocks.1", "layers.0.blocks.1.mlp"),
        ("layers.0.blocks.1.downsample.0", "layers.0.blocks.1", "layers.0.blocks.1.downsample"),
        ("layers.0.blocks.1.branches.1.proj", "layers.0.blocks.1", "layers.0.blocks.1.branches"),
        ("layers.3", "layers.3", "layers.3"),
        ("patch_embed.conv2.conv.0", "patch_embed", "patch_embed"),
        ("head", "head", "head"),
        ("norm", "norm", "norm"),
    ],
)
def test_blocks_and_parts(path: str, block: str, part: str) -> None:
    assert NETWORK.block_of(path) == block
    assert NETWORK.part_of(path) == part


def test_the_model_itself_belongs_to_no_block() -> None:
    assert NETWORK.block_of("") is None


def test_only_stages_are_stages() -> None:
    paths = [name for name, _ in on_meta("xxs").named_modules()]
    assert [path for path in paths if NETWORK.is_stage(path)] == ["layers.0", "layers.1", "layers.2", "layers.3"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_of_a_model_is_in_one_of_its_blocks(variant: str) -> None:
    names = [name for name, module in on_meta(variant).named_modules() if not list(module.children()) and name]
    found = {NETWORK.block_of(name) for name in names}
    assert len([block for block in found if block is not None and ".blocks." in block]) == BLOCKS
    assert found - {block for block in found if block is not None and ".blocks." in block} == {
        "patch_embed",
        "norm",
        "pool",
        "head",
    }


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(("format_name", "target"), TARGETS)
def test_every_layer_of_a_lowered_model_stands_for_a_published_one(
    format_name: str, target: str, integer: bool
) -> None:
    model = create_model("xxs", 5).eval()
    published = {name for name, _ in model.named_modules() if name}
    lowered = lower(model, format_name, target, integer=integer)
    layers = [name for name, module in lowered.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    found = {name: NETWORK.published_path(name, published) for name in layers}
    kinds = (nn.Conv2d, nn.Linear)
    for name, path in found.items():
        assert path in published, name
        # The stem's normalization has become a convolution; all others were one before.
        expected = name == "patch_embed.layernorm.1" or isinstance(model.get_submodule(path), kinds)
        assert expected or path.endswith((".mlp.fc1", ".mlp.fc2", ".mlp.dwconv")), name
        assert NETWORK.block_of(name) == NETWORK.block_of(path)
    # None is forgotten: every convolution and linear layer of the published model has one that stands for it.
    own = {name for name, module in model.named_modules() if isinstance(module, kinds)}
    assert own <= set(found.values())


@pytest.mark.parametrize(
    ("path", "published"),
    [
        ("layers.1.blocks.0.branches.0.k.0", "layers.1.blocks.0.attn.qkvs.0"),
        ("layers.1.blocks.0.branches.0.v.1", "layers.1.blocks.0.attn.convs.0"),
        ("layers.1.blocks.0.branches.0.gate.act_block.2", "layers.1.blocks.0.attn.act_blocks.0.act_block.2"),
        ("layers.1.blocks.0.branches.1.q", "layers.1.blocks.0.attn.global_q"),
        ("layers.1.blocks.0.branches.1.kv", "layers.1.blocks.0.attn.global_kv"),
        ("layers.1.blocks.0.branches.1.avgpool", "layers.1.blocks.0.attn.avgpool"),
        ("layers.1.blocks.0.branches.1.attention", "layers.1.blocks.0.attn.global_attention"),
        ("layers.1.blocks.0.branches.1.proj", "layers.1.blocks.0.attn.proj"),
        ("layers.1.blocks.0.branches.1", "layers.1.blocks.0.attn"),
        ("layers.0.blocks.0.mlp.fc1.3", "layers.0.blocks.0.mlp.fc1"),
        ("layers.2.blocks.0.attn.convs.0.parts.1", "layers.2.blocks.0.attn.convs.0"),
        ("patch_embed.layernorm.1", "patch_embed.layernorm"),
        ("nowhere.1", ""),
    ],
)
def test_published_paths(path: str, published: str) -> None:
    modules = {name for name, _ in on_meta("xxs").named_modules() if name}
    assert NETWORK.published_path(path, modules) == published


# Scale pairs.

LOCAL_GROUPS = configured(
    (24, 12, 24, 40),
    ((1, 1, 1), (1, 0, 2), (2, 1, 1), (1, 1, 2)),
    kernel_sizes=((3, 5), (5, 7), (7, 3), (9, 5)),
    depths=(1, 1, 1, 2),
)


@pytest.mark.parametrize("variant", [*VARIANTS.values(), LOCAL_GROUPS], ids=[*VARIANTS, "two local groups"])
def test_scale_pairs_cover_every_block(variant: Architecture) -> None:
    with torch.device("meta"):
        model = CloFormer(variant)
    pairs = list(NETWORK.scale_pairs(model))
    blocks = list(model.blocks)
    feeds = [pair for pair in pairs if isinstance(pair, Balanced)]
    assert [(id(pair.writer), id(pair.reader)) for pair in feeds] == [
        (id(block.mlp.dwconv), id(block.mlp.fc2)) for block in blocks
    ]
    local = [pair for pair in pairs if isinstance(pair, GatedProduct)]
    assert [id(pair.depthwise) for pair in local] == [id(conv) for block in blocks for conv in block.attn.convs]
    glob = [pair for pair in pairs if isinstance(pair, SoftmaxProduct)]
    with_global = [block.attn for block in blocks if block.attn.global_heads]
    assert [(id(pair.q), id(pair.kv)) for pair in glob] == [
        (id(item.global_q), id(item.global_kv)) for item in with_global
    ]
    assert len(pairs) == len(feeds) + len(local) + len(glob)
    for block in blocks:
        mine = [pair for pair in local if pair.proj is block.attn.proj]
        starts = [sum(block.attn.local_dims[:index]) for index in range(len(mine))]
        assert [pair.columns for pair in mine] == [
            slice(first, first + width) for first, width in zip(starts, block.attn.local_dims, strict=True)
        ]


def test_a_scale_pair_s_channels_fit_together() -> None:
    model = create_model("xs", 5).eval()
    fold_batch_norm(model)
    for pair in NETWORK.scale_pairs(model):
        match pair:
            case Balanced():
                assert pair.writer.groups == pair.writer.out_channels == pair.reader.in_channels
            case GatedProduct():
                width = pair.columns.stop - pair.columns.start
                assert pair.qkv.out_channels == pair.depthwise.out_channels == 3 * width
                assert pair.gate.in_channels == width
            case SoftmaxProduct():
                assert pair.kv.out_channels == 2 * pair.q.out_channels
