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


@dataclass(frozen=True)
class Sent:
    """The collectives of one kind in one call of a program.

    Attributes:
      count: how many run.
      bytes: that a device sends in them.
      beside: those of the bytes that travel while the program computes.
      shapes: what they give, each once: ("bf16", (50304, 2048)).
    """

    count: int = 0
    bytes: float = 0.0
    beside: float = 0.0
    shapes: frozenset[tuple[str, tuple[int, ...]]] = frozenset()


def traffic(text: str) -> dict[str, Sent]:
    """What a program sends between devices, by kind of collective.

    With rings, as usual: a device of n sends (n - 1) / n of what an all-gather gives or a reduce-scatter and an
    all-to-all take, and twice that of what an all-reduce gives.
    """
    found, everybody = {}, re.search(r"num_partitions=(\d+)", text)
    program = Program(text)
    for one, times, place in program.runs:
        kind, is_beside = _kind(program, one, place)
        if kind not in KINDS:
            continue
        arrays = _given(one, kind)
        whole = sum(size(f"{name}[{dims}]") for name, dims, _ in arrays)
        devices = 1 if kind == "collective-permute" else _group(one.line, int(everybody[1]) if everybody else 1)
        if kind == "reduce-scatter" and one.opcode == kind:
            whole *= devices  # it gives one part
        sent = {"all-reduce": 2 * (devices - 1) / devices, "collective-permute": 1}.get(kind, (devices - 1) / devices)
        before, moved = found.get(kind, Sent()), times * sent * whole
        shapes = {(name, tuple(int(n) for n in dims.split(",") if n)) for name, dims, _ in arrays}
        beside = before.beside + moved * is_beside
        found[kind] = Sent(before.count + times, before.bytes + moved, beside, before.shapes | shapes)
    return {kind: found[kind] for kind in KINDS if kind in found}


def _kind(program: Program, one: Instruction, place: str) -> tuple[str, bool]:
    """The kind of collective that an instruction begins, or "", and whether others run before its end."""
    kind = one.opcode.removesuffix("-start")
    if kind == "all-reduce" and place.startswith("all-reduce-scatter"):
        return "reduce-scatter", False  # how a TPU's compiler writes one whose parts don't come out even
    if kind in KINDS and "chain_id=" in one.line:  # of a TPU: every fusion that takes part in it holds a copy
        starts = any('"AsyncCollectiveStart"' in other.line for other in program.computations[place])
        return (kind, True) if starts else ("", False)
    return kind, kind != one.opcode or "async_computation" in place


def _given(one: Instruction, kind: str) -> list[tuple[str, str, str]]:
    """The arrays that a collective gives; of one that only starts, its type holds what goes in as well."""
    arrays = re.findall(ARRAY, one.result)
    if kind == one.opcode or kind == "all-reduce" or not one.opcode.endswith("-start"):
        return arrays
    arrays = [array for array in arrays if array[1] or array[0] != "u32"]
    return arrays[len(arrays) // 2 :]


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
