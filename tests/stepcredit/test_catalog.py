"""Environments and methods by name: what `make` gives, what it refuses, and that one's own are found by everything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest

import stepcredit
from agents.config import loading
from algorithms import base, shaping
from algorithms.base import Advantages, Algorithm, Batch
from envs import registry
from envs.common.structured import ConfigError
from envs.registry import UnknownEnvironment
from tests.envs import toys


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    """What a test registers is gone after it."""
    registries = registry._registry, base._registry, shaping._registry
    before = [(dict(each._known), dict(each._aliases)) for each in registries]
    ids = dict(gymnasium.registry)
    yield
    for each, (known, aliases) in zip(registries, before, strict=True):
        each._known, each._aliases = known, aliases
    gymnasium.registry.clear()
    gymnasium.registry.update(ids)


def test_an_environment_is_made_as_training_makes_it() -> None:
    env = stepcredit.make("alfworld")
    assert isinstance(env, gymnasium.Env)
    assert env.max_steps == loading.load(["env=alfworld"]).env.settings.max_steps
    assert stepcredit.make("alfworld", max_steps=7).max_steps == 7


def test_a_gymnasium_id_has_the_defaults_of_its_class() -> None:
    by_gymnasium = gymnasium.make("stepcredit/ALFWorld-v0").unwrapped
    assert isinstance(by_gymnasium, stepcredit.TextEnv)
    assert stepcredit.make("stepcredit/ALFWorld-v0").max_steps == by_gymnasium.max_steps


def test_a_mistyped_setting_or_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'alfworld\.max_steps'"):
        stepcredit.make("alfworld", max_step=7)
    with pytest.raises(ConfigError, match="max_steps is 'many'"):
        stepcredit.make("alfworld", max_steps="many")
    with pytest.raises(UnknownEnvironment, match="Did you mean 'alfworld'"):
        stepcredit.make("alfwrld")


def test_names_are_those_that_the_command_line_knows() -> None:
    assert {"alfworld", "webshop", "minihack", "minihack/river", "sokoban"} <= set(stepcredit.environments())
    assert {"gigpo", "ppo", "dapo"} <= set(stepcredit.methods())
    asked = {"igpo": "env=webshop", "igpo_official": "env=webshop", "igpo_first_release": "env=webshop"}
    asked["shaped"] = "shaping=aligndistil"
    for name in stepcredit.methods():
        loading.load([f"algo={name}", *([asked[name]] if name in asked else [])])


def test_an_environment_of_ones_own_is_found_by_make_gymnasium_and_training() -> None:
    stepcredit.register_environment("gangway", toys.Corridor, toys.CorridorConfig, toys.CorridorPrompt)
    assert "gangway" in stepcredit.environments()
    assert isinstance(stepcredit.make("gangway", max_steps=3), toys.Corridor)
    assert isinstance(gymnasium.make("local/gangway-v0").unwrapped, toys.Corridor)
    assert loading.load(["env=gangway", "env.max_steps=3", "warmstart.enabled=false"]).env.settings.max_steps == 3
    with pytest.raises(ValueError, match="registered already"):
        stepcredit.register_environment("gangway", toys.Corridor, toys.CorridorConfig, stepcredit.Prompt)


def last_step() -> type[Algorithm]:
    """The class of a cell that is run: each time another one."""

    @dataclass
    class LastStep(Algorithm):
        """Credits nothing but an episode's last step."""

        def advantages(self, batch: Batch) -> Advantages:
            last = np.append(np.diff(batch.episode) != 0, True)
            return Advantages(np.where(last, batch.reward, 0.0), batch.included)

    return LastStep


def test_a_method_of_ones_own_is_found_and_a_cell_that_runs_again_replaces_it() -> None:
    stepcredit.register_method("last_step", last_step())
    again = last_step()
    stepcredit.register_method("last_step", again)
    assert base.get("last_step") is again
    assert "last_step" in stepcredit.methods()
    found = stepcredit.advantages("last_step", rewards=[1.0, 2.0, 3.0], episodes=["b", "a", "b"])
    assert found.values.tolist() == [0.0, 2.0, 3.0]
    assert loading.load(["algo=last_step"]).algo["name"] == "last_step"
    with pytest.raises(ValueError, match="registered already"):
        stepcredit.register_method("gigpo", again)


def test_an_environment_of_a_cell_that_runs_again_replaces_itself() -> None:
    def cell() -> type:
        class Passage(toys.Corridor):
            name = "gangway"

        return Passage

    stepcredit.register_environment("gangway", cell(), toys.CorridorConfig)
    again = cell()
    stepcredit.register_environment("gangway", again, toys.CorridorConfig)
    assert type(stepcredit.make("gangway")) is again
    assert type(gymnasium.make("local/gangway-v0").unwrapped) is again


def test_a_shaping_of_ones_own_is_found() -> None:
    @dataclass
    class Bonus(stepcredit.Shaping):
        """Pays nothing."""

    stepcredit.register_shaping("bonus", Bonus)
    assert loading.load(["shaping=bonus"]).shaping == {"bonus": {}}


def test_what_does_not_derive_from_the_base_class_is_refused_in_words() -> None:
    class Bonus:
        pass

    with pytest.raises(ValueError, match=r"shaping 'bonus' is .*Bonus.*does not derive from algorithms\.shaping\.Shaping"):
        stepcredit.register_shaping("bonus", Bonus)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"method 'bonus' is .*does not derive from algorithms\.base\.Algorithm"):
        stepcredit.register_method("bonus", Bonus)  # type: ignore[arg-type]
