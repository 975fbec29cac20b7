"""Placements that no NPU's compiler tells: the Neural Engine's by rules, and XNNPACK's."""

from pathlib import Path

import pytest

from cloformer_deploy.backends.coreml.describe import Computed
from cloformer_deploy.backends.registry import BACKENDS
from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.npu import PLACERS, placer_of
from cloformer_deploy.npu.neural_engine import LINTS, RULES, Rule, _notes, _reason, placed
from tests.cli.command_line import invoke, parsed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_every_rule_names_its_source_and_confidence(rule: Rule) -> None:
    assert rule.source in rule.text
    for name in rule.operators:
        reason = _reason(Computed(name, "float16", 4, 0, ""))
        assert reason == rule.text
        assert "confidence" in reason


def test_floats_of_32_bits_and_more_than_four_axes_stay_off() -> None:
    assert _reason(Computed("conv", "float16", 4, 1, "")) == ""
    assert "float16 alone" in _reason(Computed("conv", "float32", 4, 1, ""))
    assert "axes" in _reason(Computed("reshape", "float16", 5, 0, ""))


def test_rows_are_by_type_unit_and_reason() -> None:
    """A Mac's compute plan gives units in the same form; it is not executed here."""
    operators = [Computed("conv", "float16", 4, macs, str(macs)) for macs in (1, 2, 5)]
    operators.append(Computed("add", "float16", 4, 0, "sum"))
    found = placed(operators, [("NPU", ""), ("NPU", ""), ("GPU", "planned"), ("NPU", "")])
    assert [(item.operator, item.count, item.unit, item.reason) for item in found] == [
        ("conv", 1, "GPU", "planned"),
        ("conv", 2, "NPU", ""),
        ("add", 1, "NPU", ""),
    ]
    assert [item.share_of_macs for item in found] == pytest.approx([5 / 8, 3 / 8, 0])


def test_known_faults_name_their_threads() -> None:
    assert list(_notes({"conv", "reduce_argmax"})) == [f"reduce_argmax: {LINTS['reduce_argmax']}"]
    assert "116" in LINTS["reduce_argmax"]
    assert list(_notes({"conv"})) == []


def by_unit(found: "list[dict[str, object]]") -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in found:
        counts[str(item["unit"])] = counts.get(str(item["unit"]), 0) + int(str(item["count"]))
    return counts


@pytest.mark.integration
def test_a_float16_package_is_predicted_on_the_engine_and_a_float32_one_off_it(image_bundle: Bundle) -> None:
    ended = invoke("inspect", str(image_bundle.root), "--placement", "ane", "--json")
    assert ended.code == 0, ended.said
    found = {item["precision"]: item for item in parsed(ended.stdout)["artifacts"] if item["format"] == "coreml"}
    half = by_unit(found["fp16"]["placement"])
    assert half["NPU"] > 5 * half.get("CPU", 0)
    convolutions = [item for item in found["fp32"]["placement"] if item["operator"] == "conv"]
    assert {item["unit"] for item in convolutions} == {"CPU"}
    assert found["fp16"]["estimate"] is None
    assert sum(item["share_of_macs"] for item in found["fp16"]["placement"]) == pytest.approx(1)


@pytest.mark.integration
def test_xnnpack_is_in_the_same_table(ethos_u_bundle: Bundle) -> None:
    path = next(Path(ethos_u_bundle.root).glob("*int8*.tflite"))
    placed = placer_of("xnnpack").compile(path)
    counts: dict[str, int] = {}
    for item in placed.placement:
        counts[item.operator] = counts.get(item.operator, 0) + item.count
    assert counts == BACKENDS["tflite"].describe(path).operators
    left = {item.operator for item in placed.placement if item.unit == "CPU"}
    assert "GELU" in left
    shown = invoke("inspect", str(path), "--placement", "xnnpack")
    assert "left on the CPU; told by ai-edge-litert" in shown.stdout


def test_an_unknown_placement_is_refused() -> None:
    ended = invoke("inspect", "tests", "--placement", "npu")
    assert ended.code == 2
    assert "no placement on 'npu' is known" in ended.said
    assert all(name in ended.said for name in PLACERS)
