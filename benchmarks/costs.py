"""What a compiled program costs, read from its text: cycles, FLOPs, bytes of memory, kernels; loops are multiplied out.

The compilers' own `cost_analysis` counts a loop's body once, and XLA's for GPUs gives none, so it is not used.
"""

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from benchmarks.hlo import ARRAY, Instruction, Program, calls, dimensions, size

MOSAIC = 'custom_call_target="tpu_custom_call"'
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
FREE |= {"after-all", "partition-id", "replica-id", "async-start", "async-update", "opt-barrier"}


@dataclass(frozen=True)
class Costs:
    """Of one call of a program.

    Attributes:
      cycles: that the compiler estimates, without kernels of Pallas; 0 where it gives none.
      flops: of products, convolutions and FFTs (5 n log2 n), and what kernels of Pallas say of themselves.
      bytes: that instructions read from memory and write to it; a slice counts as what it takes. What lies in a TPU's
        on-chip memory is not in it.
      kernels: how many there are in the text, by sort.
      pallas: (FLOPs, bytes) of each call of such a kernel.
    """

    cycles: int
    flops: float
    bytes: float
    kernels: dict[str, int]
    pallas: tuple[tuple[float, float], ...]


def costs(text: str, unknown: int = 1) -> Costs:
    """Reads a program's text; see `Costs`, and `Program` for `unknown`."""
    program, cycles, flops, moved, pallas = Program(text, unknown), 0, 0.0, 0.0, []
    memory = Memory(program)
    for one, times, place in program.runs:
        own = arithmetic(program, one, place)
        if MOSAIC in one.line:
            said = kernel(program, one, place)
            own, pallas = said[0], pallas + [said] * times
        elif cost := re.search(r'"estimated_cycles":"(\d+)"', one.line):
            cycles += int(cost[1]) * times
        flops += own * times
        if place not in program.inner:
            moved += memory.moved(one, place) * times
    return Costs(cycles, flops, moved, kernels(program), tuple(pallas))


def kernel(program: Program, one: Instruction, place: str) -> tuple[float, float]:
    """FLOPs and bytes of a kernel of Pallas: its `cost_estimate`, but no fewer bytes than operands and results."""
    said = dict(re.findall(r'"(flops|bytes_accessed)":"?(\d+)', one.line))
    least = size(one.result) + sum(size(program.by_name[place, name].result) for name in one.operands)
    return float(said.get("flops", 0)), float(max(least, int(said.get("bytes_accessed", 0))))


def kernels(program: Program) -> dict[str, int]:
    """How many fusions, kernels of Pallas and calls of libraries a program has, each once however often it runs."""
    found = {"fusions": 0, "pallas": 0, "cublas": 0, "cufft": 0, "others": 0}
    for name in {place for _, _, place in program.runs} - program.inner:
        for one in program.computations[name]:
            sort = {"fusion": "fusions", "fft": "cufft"}.get(one.opcode, "")
            if one.opcode == "custom-call":
                target = one.attribute("custom_call_target")
                is_pallas = "tpu_custom_call" in target or "triton" in target or "mosaic" in target
                sort = "pallas" if is_pallas else "cublas" if "__cublas" in target else "others"
            if sort:
                found[sort] += 1
    return {sort: count for sort, count in found.items() if count}


def arithmetic(program: Program, one: Instruction, place: str) -> float:
    """FLOPs of a product, a convolution or an FFT; 0 of all else."""
    if one.opcode == "fft":
        lengths = [int(n) for n in re.findall(r"\d+", one.attribute("fft_length"))]
        return 5 * math.prod(dimensions(one.result)) * math.log2(math.prod(lengths))
    if one.opcode == "convolution":
        return _convolution(program, one, place)
    if one.opcode == "dot":
        contracted = re.findall(r"\d+", one.attribute("lhs_contracting_dims"))
    elif "__cublas" in one.attribute("custom_call_target"):
        contracted = json.loads("[" + re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.line)[1] + "]")
    else:
        return 0.0
    left = dimensions(program.by_name[place, one.operands[0]].result)
    return 2.0 * math.prod(dimensions(one.result)) * math.prod(left[int(axis)] for axis in contracted)


def _convolution(program: Program, one: Instruction, place: str) -> float:
    """A TPU's products are convolutions, their batch a dilated axis: only places that meet something count."""
    left, right, result = (
        dimensions(text) for text in (*(program.by_name[place, name].result for name in one.operands[:2]), one.result)
    )
    inputs, taps, outputs = re.split("_|->", one.attribute("dim_labels"))
    window = dict(re.findall(r"(\w+)=([^\s{}]+)", one.attribute("window")))
    pairs = 1.0
    for axis in sorted(set(inputs) - {"b", "f"}):
        stride, dilate, spread = (
            int(window.get(name, "x".join("1" * len(inputs))).split("x")[int(axis)])
            for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        before = int(window["pad"].split("x")[int(axis)].split("_")[0]) if "pad" in window else 0
        reach = (left[inputs.index(axis)] - 1) * dilate
        places = np.arange(result[outputs.index(axis)])[:, None] * stride - before
        places = places + np.arange(right[taps.index(axis)])[None] * spread
        pairs *= np.count_nonzero((places >= 0) & (places <= reach) & (places % dilate == 0))
    return 2.0 * pairs * result[outputs.index("b")] * result[outputs.index("f")] * right[taps.index("i")]


class Memory:
    """Bytes that instructions of a program read and write."""

    def __init__(self, program: Program):
        self.program = program

    def moved(self, one: Instruction, place: str) -> int:
        """Bytes of memory of one call."""
        if one.opcode in FREE or one.opcode.endswith("-done"):
            return 0
        if one.opcode.endswith("-start"):  # a copy, to or from a TPU's on-chip memory: the result names both ends
            copied = re.findall(ARRAY, one.result)[1:2]
            where = [self._operand(one, place, 0), *(f"{kind}[{dims}]{{{layout}}}" for kind, dims, layout in copied)]
            return sum(bool(_memory(end)) for end in where) * size(where[-1])
        if one.opcode == "fusion":
            return self._fusion(one, place)
        reads = sum(self._read(one, place, number) for number in range(len(one.operands)))
        return reads + self._written(one, place)

    def _fusion(self, one: Instruction, place: str) -> int:
        (inside,) = calls(one)
        total = min(_memory(one.result), self._roots(inside))
        for number in range(len(one.operands)):
            total += min(_memory(self._operand(one, place, number)), self._used(inside, number))
        return total

    def _operand(self, one: Instruction, place: str, number: int) -> str:
        return self.program.by_name[place, one.operands[number]].result

    def _read(self, one: Instruction, place: str, number: int) -> int:
        """Of an operand, what an instruction reads."""
        whole = _memory(self._operand(one, place, number))
        if one.opcode in ("dynamic-slice", "slice", "gather") and number == 0:
            return min(whole, size(one.result))
        return 0 if one.opcode == "dynamic-update-slice" and number == 0 else whole

    def _written(self, one: Instruction, place: str) -> int:
        if one.opcode == "dynamic-update-slice":
            return min(_memory(one.result), size(self._operand(one, place, 1)))
        if "__cublas" in one.line:  # the rest is room to work
            return size(re.search(ARRAY, one.result)[0])
        return _memory(one.result)

    def _used(self, inside: str, number: int) -> int:
        """What a fusion reads of its operand."""
        parameter = next(
            one for one in self.program.computations[inside] if one.opcode == "parameter" and f"({number})" in one.line
        )
        return self._reads_of(parameter, inside)

    def _reads_of(self, value: Instruction, inside: str) -> int:
        total = 0
        for user in self.program.computations[inside]:
            for number, name in enumerate(user.operands):
                if name != value.name:
                    continue
                if user.opcode == "bitcast":
                    total += self._reads_of(user, inside)
                elif user.opcode == "fusion":
                    total += self._used(calls(user)[0], number)
                elif user.opcode in ("dynamic-slice", "slice", "gather", "dynamic-update-slice"):
                    sliced = user.opcode != "dynamic-update-slice"
                    total += (size(user.result) if sliced else 0) if number == 0 else size(value.result)
                else:
                    total += size(value.result)
        return min(total, size(value.result))

    def _roots(self, inside: str) -> int:
        root = next(one for one in self.program.computations[inside] if one.is_root)
        return self._wrote(root, inside)

    def _wrote(self, one: Instruction, inside: str) -> int:
        if one.opcode == "tuple":
            return sum(self._wrote(self.program.by_name[inside, name], inside) for name in one.operands)
        if one.opcode == "bitcast":
            return self._wrote(self.program.by_name[inside, one.operands[0]], inside)
        if one.opcode == "fusion":
            return self._roots(calls(one)[0])
        return size(self._operand(one, inside, 1)) if one.opcode == "dynamic-update-slice" else size(one.result)


def _memory(shapes: str) -> int:
    """Bytes of the arrays of a type that are in memory, not in what a TPU has on the chip."""
    found = re.findall(ARRAY, shapes)
    return sum(size(f"{kind}[{dims}]") for kind, dims, layout in found if not re.search(r"S\([1-9]", layout))
