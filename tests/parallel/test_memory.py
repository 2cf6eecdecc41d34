from types import SimpleNamespace

import pytest

from fftnet_jax.parallel import memory
from fftnet_jax.parallel.memory import device_memory, host_memory, shortage

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(lines of meminfo, the process's groups, **files of a group)`: what Linux tells, in a folder."""

    def make(meminfo, cgroup, files):
        for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files}.items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, "Path", lambda path: tmp_path / str(path).lstrip("/"))
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "sys/fs/cgroup")

    return make


MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\nSwapFree: 1048576 kB\nHugePages_Total: 0\n"


@pytest.mark.parametrize(
    "meminfo, cgroup, files, wanted",
    [
        (MEMINFO, None, {}, 9 * GIB),
        (MEMINFO, "0::/a/b", {"a/memory.max": "max", "a/memory.current": "5"}, 9 * GIB),
        (
            MEMINFO,
            "0::/a/b",
            {"a/memory.max": str(4 * GIB), "a/memory.current": str(3 * GIB), "a/memory.stat": f"anon 1\nfile {GIB}"},
            3 * GIB,
        ),
        (MEMINFO, "0::/of/the/host", {"memory.max": str(2 * GIB), "memory.current": "0"}, 3 * GIB),
        (
            MEMINFO,
            "5:cpu:/x\n4:memory:/x",
            {"memory/x/memory.limit_in_bytes": str(GIB), "memory/x/memory.usage_in_bytes": str(GIB // 2)},
            3 * GIB // 2,
        ),
        ("MemTotal: 9000000 kB\n", None, {}, None),
        (None, None, {}, None),
    ],
)
def test_host(meminfo, cgroup, files, wanted, machine):
    machine(meminfo, cgroup, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert host_memory() == wanted


def device(stats):
    def tell():
        if isinstance(stats, Exception):
            raise stats
        return stats

    return SimpleNamespace(memory_stats=tell)


def test_device():
    assert device_memory(device({"bytes_limit": 7, "bytes_in_use": 3})) == 7
    for stats in (None, {}, RuntimeError("not implemented")):
        assert device_memory(device(stats)) is None


def test_shortage(monkeypatch):
    monkeypatch.setattr(memory, "host_memory", lambda: 10 * GIB)
    own, without = [device({"bytes_limit": 4 * GIB})] * 2, [device(None)] * 2
    assert shortage(4 * GIB, 10 * GIB, own) == (0, "")
    assert shortage(5 * GIB, GIB, own) == (GIB, "5.0 GiB on each device, which has 4.0 GiB")
    assert shortage(GIB, 12 * GIB, own) == (2 * GIB, "12.0 GiB of memory, and this host has 10.0 GiB free")
    assert shortage(4 * GIB, 2 * GIB, without) == (0, ""), "CPU devices share the host's"
    assert shortage(4 * GIB, 3 * GIB, without) == (GIB, "11.0 GiB of memory, and this host has 10.0 GiB free")
    monkeypatch.setattr(memory, "host_memory", lambda: None)
    assert shortage(2**80, 2**80, without) == (0, ""), "nobody knows"
