"""What a compiled program sends between devices, and what a TPU's compiler thinks it costs, read from its text."""

import math
import re

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8, "c64": 8}


def traffic(text: str) -> dict[str, tuple[int, int]]:
    """For each kind of collective: how many run in one call of the program, and the bytes that a device sends in them.

    With rings, as usual: a device of n sends (n - 1) / n of what an all-gather gives or a reduce-scatter and an
    all-to-all take, and twice that of what an all-reduce gives.
    """
    found, everybody = {kind: [0, 0.0] for kind in KINDS}, re.search(r"num_partitions=(\d+)", text)
    for line, times in _run_lines(text):
        match = re.match(r"\s*(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z-]+?)(?:-start)?\(", line)
        if not match or match[2] not in found:
            continue
        size = _bytes(match[1])
        devices = 1 if match[2] == "collective-permute" else _group(line, int(everybody[1]) if everybody else 1)
        sent = {
            "all-gather": size * (devices - 1) / devices,
            "reduce-scatter": size * (devices - 1),  # it gives one part
            "all-reduce": 2 * size * (devices - 1) / devices,
            "all-to-all": size * (devices - 1) / devices,
            "collective-permute": size,
        }[match[2]]
        found[match[2]][0] += times
        found[match[2]][1] += times * sent
    return {kind: (count, round(sent)) for kind, (count, sent) in found.items() if count}


def estimated_cycles(text: str) -> int:
    """The cycles that a TPU's compiler wrote beside its instructions, those of a loop as often as it turns."""
    costs = ((re.search(r'"estimated_cycles":"(\d+)"', line), times) for line, times in _run_lines(text))
    return sum(int(cost[1]) * times for cost, times in costs if cost)


def _run_lines(text: str) -> list[tuple[str, int]]:
    """The lines of all computations that run, with how often each does."""
    bodies, entry = {}, None
    for header, body in re.findall(r"^((?:ENTRY )?%?[\w.-]+) [^\n]*\{\n(.*?)^\}", text, flags=re.M | re.S):
        name = header.removeprefix("ENTRY ").lstrip("%")
        bodies[name] = body.splitlines()
        entry = name if header.startswith("ENTRY") else entry
    found = []

    def visit(name: str, times: int) -> None:
        for line in bodies.get(name, ()):
            found.append((line, times))
            loop = " while(" in line
            for called in re.findall(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)", line):
                visit(called, times * (_trips(line, bodies) if loop else 1))
            for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
                for called in branches.split(","):
                    visit(called.strip().lstrip("%"), times)

    visit(entry, 1)
    return found


def _trips(loop: str, bodies: dict) -> int:
    """How often a loop turns: as the compiler says, or else the bound that its condition compares with."""
    known = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop)
    bounds = re.findall(r"constant\((\d+)\)", "\n".join(bodies.get(condition[1], ()))) if condition else ()
    return max(map(int, bounds), default=1)


def _bytes(shapes: str) -> int:
    sizes = re.findall(r"([a-z]\w*)\[([\d,]*)\]", shapes)
    return sum(WIDTHS[kind] * math.prod(map(int, filter(None, dims.split(",")))) for kind, dims in sizes)


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
