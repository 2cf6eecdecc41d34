"""What memory there is: of a device, and of the host, which CPU devices share. None where nobody says."""

from pathlib import Path

import jax

CGROUPS = Path("/sys/fs/cgroup")


def shortage(device: int, host: int, devices: list) -> tuple[int, str]:
    """By how many bytes a need is not met, and how to say it; (0, "") where it is, and where nobody knows.

    Args:
      device: bytes needed on each of `devices`, those of this process.
      host: bytes needed of the host, devices apart.
    """
    own = min(filter(None, map(device_memory, devices)), default=None)
    room, shared = host_memory(), host if own else host + len(devices) * device
    found = [(0, "")]
    if own and device > own:
        found.append((device - own, f"{_gib(device)} on each device, which has {_gib(own)}"))
    if room is not None and shared > room:
        found.append((shared - room, f"{_gib(shared)} of memory, and this host has {_gib(room)} free"))
    return max(found)


def device_memory(device: jax.Device) -> int | None:
    """Bytes that arrays on a device may take; None for one without memory of its own, and where it doesn't tell."""
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except Exception:  # of backends that have no such call
        return None


def host_memory() -> int | None:
    """Bytes that this process may still take, swap included: of the machine, and of its control groups. On Linux."""
    meminfo = _numbers(Path("/proc/meminfo"), 1024)
    if "MemAvailable" not in meminfo:
        return None
    swap = meminfo.get("SwapFree", 0)
    return swap + min([meminfo["MemAvailable"], *_group_rooms()])


def _group_rooms() -> list[int]:
    """What is left of each limit that a control group sets, of version 2 or 1, from this process's up to the root."""
    rooms = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return rooms
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base, names = CGROUPS, ("memory.max", "memory.current", "file")
        elif "memory" in controllers.split(","):
            base, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
        else:
            continue
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):  # in a container, the path may be the host's, and only the root be seen
            if folder.is_relative_to(base):
                rooms += _room(folder, *names)
    return rooms


def _room(folder: Path, limit: str, used: str, cache: str) -> list[int]:
    try:
        most, now = (int((folder / name).read_text()) for name in (limit, used))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return []
    return [most - max(0, now - _numbers(folder / "memory.stat", 1).get(cache, 0))]


def _numbers(file: Path, unit: int) -> dict[str, int]:
    """Lines such as "MemFree: 12 kB" or "file 34" as numbers of bytes."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
        return {name.rstrip(":"): int(value) * unit for name, value, *_ in words}
    except (OSError, ValueError):
        return {}


def _gib(size: int) -> str:
    return f"{min(size, 2**63) / 2**30:,.1f} GiB"  # beyond that nothing is exact
