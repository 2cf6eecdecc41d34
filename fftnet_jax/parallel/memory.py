"""How much memory there is."""

from pathlib import Path

import jax

GROUPS = (  # limit and use of a container's memory, in cgroups of version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available(devices: list[jax.Device]) -> int | None:
    """Bytes for each of these devices, of which this process has some; None where the system does not say.

    Devices that have no memory of their own share the host's.
    """
    local = [device for device in devices if device.process_index == jax.process_index()]
    limit = (local[0].memory_stats() or {}).get("bytes_limit")
    if limit:
        return limit
    host = host_memory()
    return None if host is None else host // len(local)


def host_memory() -> int | None:
    """Bytes that this process can still take of the host's memory; None where the system does not say."""
    found = [limit - used for limit, used in map(_group, GROUPS) if limit is not None]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):  # not Linux
        pass
    return min(found, default=None)


def _group(files) -> tuple[int | None, int]:
    try:
        limit, used = (Path(file).read_text().strip() for file in files)
        return int(limit), int(used)
    except (OSError, ValueError):  # no such group, or "max"
        return None, 0
