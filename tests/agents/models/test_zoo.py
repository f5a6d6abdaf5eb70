"""The small trained models of the package: they are there whole, load in plain transformers, and play."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import evaluate
from agents.config import compose
from agents.config.loading import load, load_evaluate
from agents.models import zoo
from agents.models.sources import load_pretrained
from agents.runs.preflight import preflight
from envs.common.structured import ConfigError

NAMES = zoo.names()


def test_there_is_a_setting_and_a_card_for_each() -> None:
    assert NAMES
    assert {f"zoo/{file.stem}" for file in (compose.ROOT / "model" / "zoo").glob("*.yaml")} == set(NAMES)
    for name in NAMES:
        card = (Path(zoo.place(name)) / "README.md").read_text()
        assert f"model={name}" in card
        assert re.search(r"\| 0\.4 \| \d\.\d{3} \|", card)


@pytest.mark.parametrize("name", NAMES)
def test_plain_transformers_computes_what_is_sampled_here(name: str) -> None:
    folder = zoo.place(name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    policy = load_pretrained(load([f"model={name}"]).model, "cpu")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, policy.causal(ids).logits)
    assert tokenizer.get_vocab() == policy.tokenizer.get_vocab()


def test_one_plays_at_once(tmp_path: Path) -> None:
    out = tmp_path / "panel.json"
    words = ["model=zoo/alfworld-tiny", "evaluation.episodes=8", "evaluation.repeats=1", "evaluation.temperature=[0.4]"]
    assert evaluate.main([*words, f"out={out}"]) == 0
    assert json.loads(out.read_text())["temperatures"]["0.4"]["types"]["all"]["success"] >= 0.75


def test_a_name_that_the_zoo_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(ConfigError, match=r"no 'zoo/alfword-tiny'.*zoo/alfworld-tiny"):
        preflight(load_evaluate(["model=zoo/alfworld-tiny", "model.name=zoo/alfword-tiny"]))
