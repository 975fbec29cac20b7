"""`tune` on a small model: it resumes, refuses devices that give no times, and writes a recipe that `export` takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cloformer_deploy.backends.target import FOLDS, ArtifactKey
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.bench.devices.base import Answer, Request
from cloformer_deploy.bench.devices.host import Host
from cloformer_deploy.bench.protocol import Protocol
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.errors import RequestError, ToolError
from cloformer_deploy.exporting.recipe_file import read_recipe
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Progress, Silent
from cloformer_deploy.quantization.alternatives import Alternative
from cloformer_deploy.tune import TuneRequest, measuring, search, tune
from cloformer_deploy.tune.candidates import Candidates
from cloformer_deploy.tune.measuring import Measuring
from cloformer_deploy.tune.state import State
from cloformer_deploy.weights.checkpoints import load_checkpoint
from tests.cli.command_line import invoke, parsed
from tests.tiny import TRAINED, TRAINED_SIDE

TRIED = (
    Alternative("no attention rewrite", "rewrite", (), ("attend_keys_first",)),
    Alternative("normalize_axis_by_axis", "rewrite", ("normalize_axis_by_axis",)),
)
SHORT = Protocol(warmup_runs=1, warmup_s=0.0, runs=900, seconds=0.0)


class Lost(Host):
    """This machine, until it is lost at a measurement; `speed` falsifies the times of files with other choices."""

    def __init__(self, at: int = 99, faster: float = 1.0) -> None:
        self.asked: list[int] = []
        self._at, self._faster = at, faster

    def measure(self, request: Request, progress: Progress) -> Answer:
        self.asked.append(len(request.loads))
        if len(self.asked) == self._at:
            raise ToolError("the connection was lost", "connect it again")
        answer = super().measure(request, progress)
        first, *others = answer.measured
        rounds = tuple(value for value in first.rounds_ms)
        changed = [replace(item, rounds_ms=tuple(value / self._faster for value in rounds)) for item in others]
        return replace(answer, measured=(first, *changed))


Asker = Callable[..., TuneRequest]


@pytest.fixture
def request_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asker:
    """`request_on(device, most=9)`: a request for the small classifier, with two alternatives."""
    monkeypatch.setattr(search, "alternatives", lambda own, rewrites: iter(TRIED))
    monkeypatch.setattr(measuring, "TOGETHER", 1)
    monkeypatch.setattr(measuring, "QUICK", SHORT)
    monkeypatch.setattr(search, "Protocol", lambda: SHORT)
    asked = ExportRequest(("onnx",), ("fp32",), str(TRAINED), height=TRAINED_SIDE, width=TRAINED_SIDE)

    def request(device: Lost, most: int = 9) -> TuneRequest:
        return TuneRequest(asked, device, 1, None, tmp_path / "recipe.json", None, 20, None, most, 600)

    return request


@pytest.mark.integration
def test_a_lost_device_costs_one_measurement_and_what_pays_is_kept(request_on: Asker, tmp_path: Path) -> None:
    """Worth its 20 s: makes, loses, resumes and applies. The times are made up, so that the outcome is known."""
    lost = Lost(at=2, faster=1.5)
    with pytest.raises(ToolError, match="the connection was lost"):
        tune(request_on(lost), Silent())
    assert not (tmp_path / "recipe.json").exists()
    again = Lost(faster=1.5)
    found = tune(request_on(again), Silent())
    # One alternative was measured before; then the other, both together beside the better one, and the result.
    assert again.asked == [2, 2, 2]
    assert found.kept[0] == TRIED[0].name
    assert [trial.speedup for trial in found.trials.values()] == pytest.approx([1.5, 1.5])
    measured = found.recipe.measured
    assert measured is not None
    assert measured.device == "host"
    assert measured.speedup == pytest.approx(1.5)
    assert found.verdict.status == "passed"
    assert [item.name for item in tmp_path.iterdir()] == ["recipe.json"]
    recipe = read_recipe(tmp_path / "recipe.json")
    assert recipe.tuning is not None
    assert "attend_keys_first" not in recipe.tuning.rewrites

    arguments = ("--format", "onnx", "--weights", str(TRAINED), "--input-size", str(TRAINED_SIDE))
    output = tmp_path / "bundle"
    ended = invoke("export", *arguments, "--recipe", str(tmp_path / "recipe.json"), "--output", str(output))
    assert ended.code == 0, ended.said
    made = Bundle.open(output)
    (artifact,) = made.manifest.artifacts
    # What is kept of an interrupted tuning is not taken for one of other weights.
    others = made.manifest.weights.model_copy(update={"sha256": "0" * 64})
    foreign = replace(made, manifest=made.manifest.model_copy(update={"weights": others}))
    assert search._digest(request_on(again), foreign) != search._digest(request_on(again), made)
    assert artifact.tuning == recipe.tuning
    ended = invoke("validate", str(output), "--limit", "10", "--json")  # compares the weights with the tuned graph's
    assert parsed(ended.stdout)["artifacts"][0]["status"] == "passed"


@pytest.mark.integration
def test_what_does_not_pay_is_not_kept_and_the_budget_ends_it(request_on: Asker) -> None:
    slow = Lost(faster=0.8)
    found = tune(request_on(slow, most=1), Silent())
    assert slow.asked == [2]
    assert found.kept == ()
    assert found.recipe.measured is None
    assert list(found.trials) == [TRIED[0].name]


@pytest.mark.integration
def test_a_file_that_a_bug_prevents_costs_itself_alone(tmp_path: Path) -> None:
    """Worth its 5 s: a real worker ends with an exception."""
    asked = ExportRequest(("onnx",), ("fp32",), str(TRAINED), height=TRAINED_SIDE, width=TRAINED_SIDE)
    sha256 = load_checkpoint(TRAINED).sha256
    candidates = Candidates(asked, ArtifactKey("onnx", "fp32", "cpu"), sha256, tmp_path, None, Silent())
    wrong = Tuning(rewrites=(*FOLDS, "split_large_depthwise_kernels", "separate_branches"))  # no network's order
    found = candidates.make([wrong])[wrong]
    assert found == "a bug, please report it: AttributeError: 'RowSplitConv' object has no attribute 'groups'"


class Emulated(Host):
    """A board whose processor is emulated."""

    name = "board"

    def measure(self, request: Request, progress: Progress) -> Answer:
        return Answer(None, "emulated", None, None, None, ())


def test_an_emulated_board_is_refused(tmp_path: Path) -> None:
    nothing, state = cast(Candidates, None), State(key="0" * 64)
    measured = Measuring(Emulated(), 1, None, nothing, state, tmp_path / "state.json", 1, 1.0, Silent())
    with pytest.raises(RequestError, match="board is emulated: its times say nothing"):
        measured.run([], SHORT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "onnx", "--output", "a.txt"), "end its name in .json"),
        (("--format", "onnx", "--output", "none/a.json"), "a folder that exists"),
        (("--format", "gguf", "--output", "a.json"), "there is no format 'gguf'"),
        (("--format", "onnx", "--precision", "w9", "--output", "a.json"), "there is no precision 'w9'"),
        (("--format", "onnx", "--device", "toaster", "--output", "a.json"), "the device 'toaster' is not known"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(arguments: tuple[str, ...], said: str) -> None:
    ended = invoke("tune", *arguments)
    assert ended.code == 2
    assert said in ended.said
