"""Which number format `auto` means: on this processor as it is, held to less, and on others by what torch reports of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents.models.precision import bfloat16_on, choose_dtype, onednn_takes_bfloat16, processor_computes_bfloat16

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
# What torch.cpu.get_capabilities() says of these processors, as far as bfloat16 is concerned.
SKYLAKE = {"architecture": "x86_64", "cpu_name": "Skylake-SP", "avx2": True, "avx512_f": True, "avx512_bf16": False}
SAPPHIRE_RAPIDS = {**SKYLAKE, "cpu_name": "Sapphire Rapids", "avx512_bf16": True, "amx_tile": True, "amx_bf16": True}
ZEN_4 = {**SKYLAKE, "cpu_name": "Zen 4", "avx512_bf16": True, "amx_bf16": False}
ZEN_3 = {**SKYLAKE, "cpu_name": "Zen 3", "avx512_f": False}
GRAVITON_3 = {"architecture": "arm64", "cpu_name": "Neoverse V1", "neon": True, "bf16": True, "sve_bf16": True}
GRAVITON_2 = {**GRAVITON_3, "cpu_name": "Neoverse N1", "bf16": False, "sve_bf16": False}
M2 = {"architecture": "arm64", "cpu_name": "Apple M2", "neon": True, "bf16": True}


@pytest.mark.parametrize(
    ("processor", "level", "onednn", "native"),
    [
        (SAPPHIRE_RAPIDS, "AVX512", True, True),
        (ZEN_4, "AVX512", True, True),
        (SKYLAKE, "AVX512", True, False),  # oneDNN takes bfloat16 there, and emulates it
        (ZEN_3, "AVX2", False, False),
        (GRAVITON_3, "SVE256", True, True),
        (GRAVITON_3, "DEFAULT", True, True),
        (GRAVITON_2, "DEFAULT", False, False),
        (M2, "DEFAULT", False, False),  # macOS: its torch has no oneDNN
        ({}, "AVX512", True, False),  # a torch that does not say
    ],
)
def test_bfloat16_is_for_processors_that_multiply_in_it(
    processor: dict[str, object], level: str, onednn: bool, native: bool
) -> None:
    found, why = processor_computes_bfloat16(processor, level, onednn, {})
    assert found is native
    assert str(processor.get("cpu_name", "this processor")) in why


@pytest.mark.parametrize(
    ("level", "onednn", "environment", "said"),
    [
        ("AVX2", True, {}, "held to AVX2"),  # ATEN_CPU_CAPABILITY=avx2
        ("AVX512", False, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "held to AVX2"),
        ("AVX512", True, {"ONEDNN_MAX_CPU_ISA": "avx512_core"}, "held to AVX512_CORE"),
        ("AVX512", True, {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "held to AVX512_CORE_VNNI"),
    ],
)
def test_a_processor_that_is_held_to_less_takes_float32(
    level: str, onednn: bool, environment: dict[str, str], said: str
) -> None:
    found, why = processor_computes_bfloat16(SAPPHIRE_RAPIDS, level, onednn, environment)
    assert not found
    assert said in why


@pytest.mark.parametrize("limit", ["AVX512_CORE_BF16", "AVX512_CORE_AMX", "AVX10_1_512_AMX", "DEFAULT"])
def test_a_limit_that_allows_bfloat16_changes_nothing(limit: str) -> None:
    assert processor_computes_bfloat16(SAPPHIRE_RAPIDS, "AVX512", True, {"ONEDNN_MAX_CPU_ISA": limit})[0]


REPORT = """
import json, torch
from agents.models.precision import bfloat16_on, choose_dtype
device = torch.device("cpu")
print(json.dumps([str(choose_dtype("auto", device)), *bfloat16_on(device), torch.backends.cpu.get_cpu_capability()]))
"""


def on_this_processor(**held: str) -> tuple[str, bool, str, str]:
    """What `auto` means in a process of its own that is held by the environment variables `held`."""
    names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    environment = {name: value for name, value in os.environ.items() if name not in names} | held
    done = subprocess.run([sys.executable, "-c", REPORT], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dtype, native, why, level = json.loads(done.stdout)
    return dtype, native, why, level


@pytest.mark.parametrize(
    "held", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=lambda held: "".join(held)
)
def test_auto_is_float32_on_any_processor_held_to_avx2(held: dict[str, str]) -> None:
    dtype, native, _, level = on_this_processor(**held)
    if level == "DEFAULT" and native:
        pytest.skip("an ARM processor, which these variables do not concern")
    assert (dtype, native) == ("torch.float32", False)


def test_auto_follows_what_this_processor_computes_in() -> None:
    dtype, native, why, _ = on_this_processor()
    assert dtype == ("torch.bfloat16" if native else "torch.float32")
    assert why
    if native:  # then oneDNN must have been built with it, whatever made us say so
        assert onednn_takes_bfloat16()


def test_bfloat16_where_it_is_emulated_is_warned_about_with_its_price(caplog: pytest.LogCaptureFixture) -> None:
    native, why = bfloat16_on(CPU)
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    if native:
        assert not caplog.records
    else:
        assert why in caplog.text
        assert "times as long as in float32" in caplog.text


def test_what_is_named_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
    assert not caplog.records


@pytest.mark.gpu
def test_a_gpu_takes_bfloat16_from_compute_capability_8() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    native, why = bfloat16_on(device)
    assert native == (torch.cuda.get_device_capability(device)[0] >= 8)
    assert torch.cuda.get_device_name(device) in why
    assert choose_dtype("auto", device) == (torch.bfloat16 if native else torch.float32)
