"""Programs of `torch.export`: what is read of them, and that nothing in them runs."""

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloformer_deploy.errors import CheckpointError, UnsupportedModelError
from cloformer_deploy.networks.program.tracing import named_tensors, traced
from cloformer_deploy.weights.checkpoints import build_model, checkpoint_bytes, load_checkpoint
from cloformer_deploy.weights.programs import About, checked, loaded, saved
from tests.cli.command_line import invoke

MARK = "cloformer-ran-code"


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(1024, 5)
    ).eval()


def image(batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def plain() -> bytes:
    """A file as a user's `torch.export.save` writes it, without anything of this package."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = torch.export.export(small(), (image(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program.run_decompositions({}), buffer)
    return buffer.getvalue()


def changed(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """An archive with one entry changed; the name's folder is left out."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, change(content) if entry.filename.partition("/")[2] == name else content)
    return made.getvalue()


def with_json(data: bytes, change: Callable[[Any], None]) -> bytes:
    def rewrite(content: bytes) -> bytes:
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return changed(data, "models/model.json", rewrite)


def test_a_program_with_operators_in_place_is_made_functional(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = torch.export.export(model, (image(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, tmp_path / "net.pt2")
        torch.export.save(torch.export.export(model, (image(),)), tmp_path / "fixed.pt2")
    found = build_model(load_checkpoint(tmp_path / "net.pt2"))
    assert {"BatchNorm2d", "ReLU"} <= {type(module).__name__ for module in found.modules()}
    with torch.no_grad():
        torch.testing.assert_close(found(image(3))[0], model(image(3)))
    with pytest.raises(CheckpointError, match="batch size is fixed to 1"):
        load_checkpoint(tmp_path / "fixed.pt2")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(MARK),))


def test_a_users_own_program_becomes_a_checkpoint_whose_copy_computes_the_same(plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(plain)
    checkpoint = load_checkpoint(tmp_path / "net.pt2")
    assert (checkpoint.network, checkpoint.variant, checkpoint.task) == ("program", "custom", "tensors")
    assert checkpoint.architecture == {"in_chans": 3, "num_classes": 0, "outputs": (("output", 2),)}
    (tmp_path / "copy.pt2").write_bytes(checkpoint_bytes(checkpoint))
    assert checkpoint_bytes(load_checkpoint(tmp_path / "copy.pt2")) == checkpoint_bytes(checkpoint)
    with torch.no_grad():
        for batch in (1, 3):
            torch.testing.assert_close(build_model(checkpoint)(image(batch))[0], small()(image(batch)))


def test_equal_programs_give_equal_bytes_without_paths_of_the_machine() -> None:
    about = About(outputs=("output",))
    first, second = (saved(traced(small(), image(), any_batch=True), about) for _ in range(2))
    assert first == second
    assert b"stack_trace" not in first
    assert str(Path(__file__).parent).encode() not in first


def test_examples_and_guards_are_neither_read_nor_kept(
    plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = changed(plain, "data/sample_inputs/model.pt", lambda _: pickle.dumps(Evil()))
    evil = with_json(evil, lambda model: model.update(guards_code=[f"__import__('pathlib').Path('{MARK}').touch()"]))
    program = loaded(checked(evil))
    assert program.graph_signature.user_outputs
    assert not Path(MARK).exists()
    assert b"__import__" not in checked(evil)


def first_node(model: Any) -> Any:
    return next(node for node in model["graph_module"]["graph"]["nodes"] if "conv2d" in node["target"])


def set_size(text: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        sizes = model["graph_module"]["graph"]["sym_int_values"]
        next(iter(sizes.values()))["as_expr"]["expr_str"] = text

    return change


def set_target(text: str) -> Callable[[Any], None]:
    return lambda model: first_node(model).update(target=text)


def add_text(model: Any) -> None:
    first_node(model)["inputs"].append({"name": "padding", "arg": {"as_string": "/etc/passwd"}, "kind": 1})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_size(f"__import__('pathlib').Path('{MARK}').touch()"), "size"),
        (set_size("Symbol('s0', commutative=open('x'))"), "size"),
        (set_size("9**9**9"), "size"),
        (set_target("torch.ops.aten.from_file.default"), "from_file"),
        (set_target("torch.hub.load"), "not PyTorch's own"),
        (set_target("#mine:touch"), "not PyTorch's own"),
        (set_target("torch.ops.aten.rand.default"), "rand.default"),
        (set_target("math.__loader__"), "not PyTorch's own"),
        (set_target("torch.ops.higher_order.cond"), "not PyTorch's own"),
        (add_text, "passwd"),
        (lambda model: model["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}}), "custom_obj"),
        (lambda model: model["graph_module"].pop("graph"), "damaged"),
        (lambda model: model["graph_module"]["graph"].update(nodes=7), "damaged"),
    ],
)
def test_graphs_of_anything_else_are_refused(
    plain: bytes, change: Callable[[Any], None], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt2").write_bytes(with_json(plain, change))
    with pytest.raises(CheckpointError, match=re.escape(match)):
        load_checkpoint(tmp_path / "net.pt2")
    assert not Path(MARK).exists()


class WithoutAutocast(nn.Module):
    """A network that switches autocast off around a layer, as attention is written."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of 4 channels."""
        x = self.first(x)
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.second(x.float()) * 2
        return result


def test_autocast_is_resolved_or_the_way_to_do_it_is_told(tmp_path: Path) -> None:
    model = WithoutAutocast().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = torch.export.export(model, (image(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, tmp_path / "net.pt2")
        torch.export.save(program.run_decompositions({}), tmp_path / "resolved.pt2")
    with pytest.raises(CheckpointError, match="wrap_with_autocast") as caught:
        load_checkpoint(tmp_path / "net.pt2")
    assert "run_decompositions" in caught.value.hint
    loaded_again = build_model(load_checkpoint(tmp_path / "resolved.pt2"))
    with torch.no_grad():
        (found,) = named_tensors(loaded_again(image()))
        assert torch.equal(found[1], model(image()))


def pickled(content: bytes) -> bytes:
    config = json.loads(content)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


def outside(content: bytes) -> bytes:
    config = json.loads(content)
    next(iter(config["config"].values()))["path_name"] = "../../etc/passwd"
    return json.dumps(config).encode()


@pytest.mark.parametrize("change", [pickled, outside, lambda content: content[:-5]])
def test_tensors_are_raw_and_in_the_archive(plain: bytes, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CheckpointError):
        checked(changed(plain, "data/weights/model_weights_config.json", change))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive"])
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(data)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "net.pt2")


def test_truncated_files_are_refused(plain: bytes) -> None:
    for size in range(0, len(plain), len(plain) // 40):
        with pytest.raises(CheckpointError):
            checked(plain[:size])


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean() > 0 else x


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


@pytest.mark.parametrize(
    ("model", "match"), [(Deciding(), "depends on the values of the image"), (Stubborn(), "one batch size only")]
)
def test_networks_that_cannot_be_traced_are_named(model: nn.Module, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        traced(model, image(), any_batch=True)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"a": image(), "b": 3}, "output b is of type int"),
        ((image(), None), "output_1 is of type NoneType"),
        (image().long(), "int64"),
        ([], "returns nothing"),
    ],
)
def test_outputs_that_are_no_tensors_are_named(value: Any, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        list(named_tensors(value))


def test_a_program_of_several_inputs_is_exit_2(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    torch.export.save(torch.export.export(Two(), (image(), image())), tmp_path / "two.pt2")
    outcome = invoke("export", "--weights", tmp_path / "two.pt2", "--format", "onnx", "--output", tmp_path / "b")
    assert outcome.code == 2
    assert "2 inputs" in outcome.said
    assert not (tmp_path / "b").exists()
