"""The text of a compiled program: its instructions, how often each runs, and what it sends between devices."""

import math
import re
from dataclasses import dataclass
from functools import cached_property

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8, "c64": 8}
WIDTHS |= {"s4": 0.5, "u4": 0.5, "f8e4m3fn": 1, "f8e5m2": 1, "s16": 2, "u16": 2, "u64": 8, "c128": 16, "token": 0}
ARRAY = r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?"  # kind, sizes, layout


@dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      result: the text of its type.
      operands: names of the instructions that it reads.
    """

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    line: str

    @property
    def is_root(self) -> bool:
        return self.line.lstrip().startswith("ROOT ")

    def attribute(self, name: str) -> str:
        """What stands behind `NAME=`, up to the next comma or space outside of braces; "" where it isn't there."""
        found = re.search(rf"[ ,]{name}=(\{{[^}}]*\}}|[^\s,]+)", self.line)
        return found[1] if found else ""


class Program:
    """A compiled program's text.

    Attributes:
      computations: by name, their instructions.
      unknown: how often a loop turns whose bound is none of the text's constants.
    """

    def __init__(self, text: str, unknown: int = 1):
        self.text, self.unknown, self.computations, self.entry = text, unknown, {}, ""
        for header, body in re.findall(r"^((?:ENTRY )?%?[\w.-]+) [^\n]*\{\n(.*?)^\}", text, flags=re.M | re.S):
            name = header.removeprefix("ENTRY ").lstrip("%")
            self.computations[name] = [found for line in body.splitlines() if (found := _read(line))]
            self.entry = name if header.startswith("ENTRY") else self.entry

    @cached_property
    def runs(self) -> list[tuple[Instruction, int, str]]:
        """Every instruction that runs, how often, and in which computation; those of fusions and of the functions of
        reductions too, see `inner`."""
        found = []

        def visit(name: str, times: int) -> None:
            for one in self.computations.get(name, ()):
                found.append((one, times, name))
                for called in calls(one):
                    visit(called, times * (self.turns(one) if one.opcode == "while" else 1))

        visit(self.entry, 1)
        return found

    @cached_property
    def inner(self) -> set[str]:
        """Computations that run inside an instruction: what they read and write is no memory's."""
        outer, found = ("while", "conditional", "call", "async-start"), set()
        for one, _, name in self.runs:
            if one.opcode not in outer or name in found:
                found |= set(calls(one))
        return found

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Instruction]:
        """(computation, name) → instruction."""
        return {(name, one.name): one for name, ones in self.computations.items() for one in ones}

    def turns(self, loop: Instruction) -> int:
        """How often a loop turns: as the compiler says, or else the bound that its condition compares with."""
        known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.line)
        if known:
            return int(known[1])
        waiting, bounds = [loop.attribute("condition").lstrip("%")], []
        while waiting:
            for one in self.computations.get(waiting.pop(), ()):
                bounds += re.findall(r" constant\((\d+)\)", one.line)
                waiting += calls(one)
        return max(map(int, bounds), default=self.unknown)


def calls(one: Instruction) -> list[str]:
    """The computations that an instruction runs, but for a loop's condition."""
    names = re.findall(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)", one.line)
    branches = re.search(r"branch_computations=\{([^}]*)\}", one.line)
    return names + [name.strip().lstrip("%") for name in branches[1].split(",")] if branches else names


def size(shapes: str) -> int:
    """Bytes of the arrays in the text of a type."""
    return sum(
        math.ceil(WIDTHS[kind] * math.prod(map(int, filter(None, dims.split(",")))))
        for kind, dims, _ in re.findall(ARRAY, shapes)
    )


def dimensions(shapes: str) -> list[int]:
    """Of the first array in the text of a type."""
    return [int(n) for n in re.search(ARRAY, shapes)[2].split(",") if n]


def _read(line: str) -> Instruction | None:
    found = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\(([^)]*)\)?", line)
    return found and Instruction(found[1], found[2], found[3], tuple(re.findall(r"%([\w.-]+)", found[4])), line)


def traffic(text: str) -> dict[str, tuple[int, int]]:
    """For each kind of collective: how many run in one call of the program, and the bytes that a device sends in them.

    With rings, as usual: a device of n sends (n - 1) / n of what an all-gather gives or a reduce-scatter and an
    all-to-all take, and twice that of what an all-reduce gives.
    """
    found, everybody = {kind: [0, 0.0] for kind in KINDS}, re.search(r"num_partitions=(\d+)", text)
    for one, times, _ in Program(text).runs:
        kind, whole = one.opcode.removesuffix("-start"), size(one.result)
        if kind not in found:
            continue
        devices = 1 if kind == "collective-permute" else _group(one.line, int(everybody[1]) if everybody else 1)
        sent = {
            "all-gather": whole * (devices - 1) / devices,
            "reduce-scatter": whole * (devices - 1),  # it gives one part
            "all-reduce": 2 * whole * (devices - 1) / devices,
            "all-to-all": whole * (devices - 1) / devices,
            "collective-permute": whole,
        }[kind]
        found[kind][0] += times
        found[kind][1] += times * sent
    return {kind: (count, round(sent)) for kind, (count, sent) in found.items() if count}


def _group(line: str, everybody: int) -> int:
    """Devices that take part in a collective together."""
    if "replica_groups={}" in line:
        return everybody
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return len(listed[1].split(","))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
    if not counted:
        raise ValueError(f"can't read {re.findall('replica_groups=.{,80}', line)}")
    return int(counted[2])
