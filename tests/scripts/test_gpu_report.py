"""The report of a graphics card: its arithmetic, its bundle, its limits; and its command, rehearsed without a card."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))  # as when the script itself is run

from gpureport import arithmetic, bundle, hardware, page  # noqa: E402

LINE = {"status": "done", "seconds": 3.0, "when": "2026-01-01 12:00", "on": "NVIDIA H100", "commit": "abc", "device": "cuda"}
TITLES = {"machine": "The machine", "window": "The recipe", "demo": "The demo", "tests": "Tests"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_report", SCRIPTS / "gpu_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_report"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# -- arithmetic ----------------------------------------------------------------------------------------------------------------


def test_the_formula_counts_the_products_that_a_model_computes() -> None:
    config = Qwen2Config(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=100,
        tie_word_embeddings=True,
        attn_implementation="eager",  # which computes the whole square of scores, so that each token "sees" all
    )
    model = Qwen2ForCausalLM(config)
    parameters = sum(p.numel() for p in model.parameters())
    shape = arithmetic.Shape.of(config, parameters)
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head) == (3, 6, 2, 8)
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=torch.arange(40)[None]).logits.sum()
    forward = counter.get_total_flops()
    # Norms and biases are weights without a product: less than a percent.
    assert shape.forward(tokens=40, logits=40, seen=40) == pytest.approx(forward, rel=0.02)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert shape.training(40, 40, 40) == pytest.approx(forward + counter.get_total_flops(), rel=0.03)


def test_an_untied_output_table_is_no_weight_of_the_layers() -> None:
    tied, untied = (Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=tied)) for tied in (True, False))
    bodies = [arithmetic.Shape.of(m.config, sum(p.numel() for p in m.parameters())).body for m in (tied, untied)]
    assert bodies[0] == bodies[1] == sum(p.numel() for p in tied.model.layers.parameters()) + SMALL["hidden_size"]


SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


def test_a_token_sees_half_of_its_sequence_on_average() -> None:
    assert arithmetic.mean_seen([1]) == 1
    assert arithmetic.mean_seen([3]) == 2  # 1, 2, 3
    assert arithmetic.mean_seen([3, 1]) == (1 + 2 + 3 + 1) / 4


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce GTX 1080", "unknown"),
    ],
)
def test_a_card_is_known_by_the_name_of_its_device(device: str, name: str) -> None:
    assert arithmetic.card(device).name == name


def test_on_an_unknown_card_nothing_is_said_of_its_peak() -> None:
    unknown = arithmetic.card("abacus")
    shape = arithmetic.Shape(2, 4, 2, 8, 32, 64, 1000)
    assert arithmetic.utilization(1e12, 1.0, unknown) is None
    assert arithmetic.seconds_of_decoding(shape, 1e9, 10, 100, 50, unknown) is None
    assert arithmetic.utilization(989e12 / 4, 1.0, arithmetic.card("NVIDIA H100")) == pytest.approx(0.25)


# -- bundle --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A bundle of three files, the largest in pieces."""
    source = tmp_path / "source"
    source.mkdir()
    for name, size in (("a.whl", 300), ("b.whl", 500), ("large.whl", 2500)):
        (source / name).write_bytes(os.urandom(size))
    return bundle.split(source.iterdir(), tmp_path / "bundle", 1200, {"python": "3.12"})


def test_no_folder_of_a_bundle_is_larger_than_asked_and_all_files_come_back(folders: list[Path], tmp_path: Path) -> None:
    assert len(folders) == 3
    for folder in folders:
        assert sum(file.stat().st_size for file in folder.iterdir() if file.name != bundle.MANIFEST) <= 1200
    manifest, missing = bundle.join(folders[::-1], tmp_path / "joined")
    assert missing == []
    assert manifest["python"] == "3.12"
    for file in (tmp_path / "source").iterdir():
        assert (tmp_path / "joined" / file.name).read_bytes() == file.read_bytes()


def test_what_a_missing_folder_held_is_named_and_the_rest_is_there(folders: list[Path], tmp_path: Path) -> None:
    _, missing = bundle.join(folders[:2], tmp_path / "joined")
    assert missing == ["large.whl: 2 of 3 pieces are in the folders given"]
    assert sorted(file.name for file in (tmp_path / "joined").iterdir()) == ["a.whl", "b.whl"]


def test_a_damaged_piece_is_refused_by_name(folders: list[Path], tmp_path: Path) -> None:
    piece = next(folders[1].glob("large.whl.piece*"))
    whole = piece.read_bytes()
    piece.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(bundle.BundleError, match=rf"{piece.name} is damaged"):
        bundle.join(folders, tmp_path / "joined")


def test_folders_of_two_bundles_do_not_go_together(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"x")
    other = bundle.split([tmp_path / "x.whl"], tmp_path / "other", 1200, {})
    with pytest.raises(bundle.BundleError, match="not of one bundle"):
        bundle.join([folders[0], other[0]], tmp_path / "joined")
    with pytest.raises(bundle.BundleError, match="is not there"):
        bundle.join([tmp_path / "nowhere"], tmp_path / "joined")


def test_official_games_are_carried_as_the_environment_reads_them(tmp_path: Path) -> None:
    for split in ("train", "valid_seen", "valid_unseen"):
        game = tmp_path / "games" / split / "pick_and_place_simple-Mug-None-Shelf-1" / "trial_1" / "game.tw-pddl"
        game.parent.mkdir(parents=True)
        game.write_text(split)
    bundle.pack_games(tmp_path / "games", tmp_path / bundle.GAMES)
    root = bundle.unpack_games(tmp_path, tmp_path / "there")
    assert root is not None
    assert sorted(file.read_text() for file in root.glob("json_2.1.1/*/*/*/game.tw-pddl")) == [
        "train",
        "valid_seen",
        "valid_unseen",
    ]
    assert bundle.unpack_games(tmp_path / "there", tmp_path / "none") is None


# -- page ----------------------------------------------------------------------------------------------------------------------

RECIPE: dict[str, Any] = {
    "games": "generated",
    "tokenizer": "SmolLM2's",
    "peak_bytes": 40 * 2**30,
    "estimated_bytes": 50 * 2**30,
    "estimated": {"weights": 3 * 2**30, "KV cache": 9 * 2**30},
    "episodes": 128,
    "steps": 30.0,
    "prompt_tokens": 600,
    "answer_tokens": 100,
    "seconds": {"rollout": 60.0, "credit": 0.05, "update": 80.0, "iteration": 140.05},
    "tokens": {"sampled": 384000, "rollout": 2.0e6, "update": 1.5e6, "padded": 1.6e6, "rebuilt": 2.4e6},
    "tokens_per_s": {"sampled": 6400.0, "rollout": 33333.0, "update": 18750.0},
    "model_flop": {"rollout": 1e15, "update": 2e16},
    "flop_computed_again": 4.5e15,
    "mfu": {"rollout": 0.0169, "update": 0.2528, "iteration": 0.1516},
    "least_seconds": {"rollout": 6.1, "update": 20.2},
    "parameters": 1.54e9,
    "mismatch_mean": 0.011,
}


def shown(**lines: Any) -> str:
    return page.page({"lines": {name: {**LINE, **line} for name, line in lines.items()}}, TITLES)


def test_the_page_says_where_an_iteration_went_and_how_far_that_is_from_the_cards_limit() -> None:
    text = shown(window={"figures": RECIPE})
    assert "| rollout | 60.0 | 2,000,000 | 33,333 | 1.7% | 6.1 |" in text
    assert "| update | 80.0 | 1,500,000 | 18,750 | 25.3% | 20.2 |" in text
    assert "| iteration | 140.1 |  |  | 15.2% | 26.3 |" in text
    assert "Peak memory 40.0 GiB; the dry run estimates 50.0 GiB (KV cache 9.0, weights 3.0)" in text
    assert "NVIDIA H100, commit abc" in text
    assert "rehearsal" not in text


def test_what_an_unknown_card_leaves_open_is_a_dash() -> None:
    unknown = {"mfu": {"rollout": None, "update": None, "iteration": None}, "least_seconds": {"rollout": None, "update": None}}
    assert "| iteration | 140.1 |  |  | - | - |" in shown(window={"figures": {**RECIPE, **unknown}})


def test_a_line_that_was_stopped_shows_what_it_had() -> None:
    curve = [{"iteration": 0, "seconds": 40.0, "success": 0.4}]
    text = shown(
        demo={"status": "stopped", "limit_s": 150.0, "figures": {"curve": curve, "seconds_to_80": None, "success": 0.8}}
    )
    assert "Stopped at its limit of 150 s" in text
    assert "did not reach 80%" in text
    assert "| 0 | 40 | 0.40 |" in text
    assert "`{'games': 'generated'}`" in shown(window={"status": "stopped", "limit_s": 9.0, "figures": {"games": "generated"}})


def test_a_failed_test_is_named_and_a_failed_line_says_why() -> None:
    text = shown(
        tests={"figures": {"passed": 31, "failed": ["test_it[bf16]"], "skipped": 0}},
        window={"status": "failed", "reason": "out of memory", "device": "cpu"},
    )
    assert "31 passed, 1 failed, 0 skipped" in text
    assert "Failed: `test_it[bf16]`" in text
    assert "Failed: out of memory" in text
    assert "A rehearsal on a processor" in text


# -- the command ---------------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, str(SCRIPTS / "gpu_report.py"), *arguments]
    return subprocess.run(given, capture_output=True, text=True, check=False)


def test_a_rehearsal_writes_page_and_figures_and_keeps_the_lines_that_were_there(tmp_path: Path) -> None:
    before = {"format": "stepcredit.gpu-report/1", "lines": {"tests": {**LINE, "status": "left out", "reason": "no time"}}}
    (tmp_path / "gpu-report.json").write_text(json.dumps(before))
    done = command("--device", "cpu", "--lines", "machine", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu-report.json").read_text())
    assert list(found["lines"]) == ["tests", "machine"]
    assert found["lines"]["machine"]["status"] == "done"
    assert found["lines"]["machine"]["figures"]["torch"] == torch.__version__
    text = (tmp_path / "gpu-report.md").read_text()
    assert torch.__version__ in text
    assert "Left out: no time" in text


def test_when_the_minutes_are_over_no_further_line_is_begun(tmp_path: Path) -> None:
    done = command("--device", "cpu", "--lines", "machine", "demo", "--minutes", "0", "--out", str(tmp_path))
    assert done.returncode == 0
    assert "machine: left out" in done.stdout
    assert "demo: left out" in done.stdout


def test_a_line_is_ended_at_its_limit_with_all_that_it_started(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"curve": []}')  # what it has noted until then
    options = argparse.Namespace(device="cpu", set=[])
    environment = script._environment([], tmp_path)
    line = script.run_line("demo", options, tmp_path, environment, limit=0.5)
    assert line["status"] == "stopped"
    assert line["figures"] == {"curve": []}
    assert line["seconds"] < 60


def test_a_line_whose_package_is_missing_is_left_out(script: ModuleType, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(tmp_path)}
    assert script._lacking(("surely_not_there",), environment) == "surely_not_there"
    (tmp_path / "surely_not_there").mkdir()
    assert script._lacking(("surely_not_there",), environment) is None


def test_the_hardware_table_names_the_smallest_card_that_has_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "MODELS", ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct"))
    *_, small, large = hardware.hardware().splitlines()
    assert small.startswith("| Qwen/Qwen2.5-1.5B-Instruct | ")
    assert "more than one" not in small
    assert "more than one" in large
