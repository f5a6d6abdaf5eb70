"""The number format of a model's weights: bfloat16 where the processor computes in it, float32 elsewhere.

A processor without such instructions converts every bfloat16 number on its way in and out of a product, which takes several
times as long as float32 and gains nothing but memory.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

import torch
from torch.nn import functional

log = logging.getLogger("stepcredit.precision")

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Those that multiply in bfloat16, as `torch.cpu.get_capabilities` names them: two of x86, two of ARM."""


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The format that model.dtype=`name` means on `device`; warns of bfloat16 that is emulated there."""
    native, why = bfloat16_on(device)
    if name == "auto":
        return torch.bfloat16 if native else torch.float32
    if name == "bfloat16" and not native:
        log.warning(
            "model.dtype=bfloat16, but %s: a product of matrices takes %.1f times as long as in float32 (measured just now); "
            "model.dtype=auto chooses float32 here",
            why,
            emulation_factor(device),
        )
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def bfloat16_on(device: torch.device) -> tuple[bool, str]:
    """Whether `device` computes in bfloat16, and the reason in words."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, f"{name} {'computes in bfloat16' if native else 'has no bfloat16 instructions and emulates it'}"
    # A torch that is too old to say gets float32, which is right everywhere.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return processor_computes_bfloat16(
        capabilities, torch.backends.cpu.get_cpu_capability(), onednn_takes_bfloat16(), os.environ
    )


def processor_computes_bfloat16(
    capabilities: Mapping[str, object], level: str, onednn: bool, environment: Mapping[str, str]
) -> tuple[bool, str]:
    """Whether torch computes in bfloat16 on a processor with these `capabilities`, and the reason in words.

    level: the instructions that torch's own kernels use here. onednn: whether oneDNN, which does its products, takes bfloat16.
    Both follow ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA, but for the limits that allow AVX-512 and not its bfloat16.
    """
    processor = str(capabilities.get("cpu_name") or "").strip() or "this processor"
    found = [name for name in INSTRUCTIONS if capabilities.get(name) is True]
    if not found:
        return False, f"{processor} has no bfloat16 instructions and emulates it"
    x86 = str(capabilities.get("architecture", "")).startswith("x86")
    limit = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or "").upper()
    if not onednn or limit in ("AVX512_CORE", "AVX512_CORE_VNNI"):
        return False, f"oneDNN does not use the {found[0]} of {processor}{f' (held to {limit})' if limit else ''}"
    if x86 and not level.startswith("AVX512"):
        return False, f"torch does not use the {found[0]} of {processor} (held to {level})"
    return True, f"{processor} computes in bfloat16 ({found[0]})"


def onednn_takes_bfloat16() -> bool:
    """Whether torch has oneDNN and hands it products in bfloat16 here; never so on macOS, whose torch has none."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def emulation_factor(device: torch.device) -> float:
    """How many times as long as in float32 a product of matrices takes in bfloat16, from the quickest of three each."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows, weights = torch.ones(64, 576, dtype=dtype, device=device), torch.ones(1536, 576, dtype=dtype, device=device)
        took = []
        for _ in range(4):
            started = time.perf_counter()
            functional.linear(rows, weights).sum().item()
            took.append(time.perf_counter() - started)
        seconds[dtype] = min(took[1:])
    return seconds[torch.bfloat16] / seconds[torch.float32]
