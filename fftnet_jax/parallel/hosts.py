"""A run of several processes, on one host or many: how they find each other, what only the first does, who is lost.

Every process runs the same program on its part of the data. The first one owns the run's folder: lock, configuration,
metrics, pictures, seals. The folder must be on storage that all of them see.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fftnet_jax.errors import ConfigError

# Seconds, set here because JAX's own (300, 100, 300) leave a run hanging for minutes after one of its hosts is gone.
JOIN, HEARTBEAT, LEAVE = 120, 30, 30
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# What errors of collectives and of JAX's coordination service say when another process is gone.
SIGNS = ("gloo", "nccl", "coordination", "heartbeat", "socket closed", "connection", "unavailable", "deadline")

INTACT = "the checkpoints are intact, start all processes again to go on from the last one"
REACH = "start all of them, with the first one's address as all can reach it"


@dataclass(frozen=True)
class Party:
    """Which processes there are. Nothing named: those that JAX finds in a Slurm, GKE, Open MPI or TPU environment."""

    coordinator: str | None = None  # HOST:PORT of the first process
    num_processes: int | None = None
    process_id: int | None = None


def party(distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None):
    """The `Party` that flags or the environment describe; None for a run of one process.

    Raises:
      ConfigError: some of what must come together is missing, or can't be right.
    """
    flags = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    named = dict(zip(VARIABLES, map(os.environ.get, VARIABLES), strict=True))
    given = flags if any(value is not None for value in flags.values()) else named
    if all(value is None for value in given.values()):
        return Party() if distributed else None
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} must be set too where {', '.join(given.keys() - missing)} is")
    (at, address), (count_name, count), (id_name, number) = given.items()
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ConfigError(f"{at} must be HOST:PORT of the first process, got {address!r}")
    count, number = _integer(count_name, count, 1, 2**20), _integer(id_name, number, 0, None)
    if number >= count:
        raise ConfigError(f"{id_name} must be in 0..{count - 1}, got {number}")
    return Party(address, count, number)


def join(party: Party) -> None:
    """Makes this process one of several; before any other use of JAX.

    Raises:
      ConfigError: the others can't be found. Where that takes `JOIN` seconds, JAX's client ends the process: with the
        same line and exit status, then, but no exception.
    """
    # JAX's own would swallow SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    start = time.monotonic()
    try:
        with _refused_after(start, party):
            jax.distributed.initialize(
                party.coordinator,
                party.num_processes,
                party.process_id,
                initialization_timeout=JOIN,
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=LEAVE,
            )
    except (RuntimeError, ValueError) as error:
        if "be defined" in str(error):  # JAX's word where nothing names them
            raise ConfigError(
                "--distributed finds no Slurm, GKE, Open MPI or TPU pod environment; "
                "name the processes: --coordinator HOST:PORT --num_processes N --process_id I"
            ) from error
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise ConfigError(f"{_not_found(party, start)} ({line}); {REACH}") from error
    # Orbax's threads log such an error with its traceback, and then raise it to the training loop, which says it.
    logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and is_loss(record.exc_info[1])))
    ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)


def _not_found(party: Party, start: float) -> str:
    which = f"--coordinator {party.coordinator}" if party.coordinator else "--distributed"
    return f"{which}: the other processes were not found in {time.monotonic() - start:.1f} s"


@contextlib.contextmanager
def _refused_after(start: float, party: Party):
    """Where JAX's client aborts inside, as it does after `JOIN` seconds: one line and status 2, not its trace."""
    sys.stderr.flush()
    libc, stderr = ctypes.CDLL(None), os.dup(2)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def refuse(_):
        os.write(stderr, f"error: {_not_found(party, start)}; {REACH}\n".encode())
        os._exit(2)

    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        libc.signal(signal.SIGABRT, refuse)
        yield
    finally:
        libc.signal(signal.SIGABRT, None)
        os.dup2(stderr, 2)
        os.close(stderr)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(_: int) -> None:
    """Says what happened where JAX's client ends this process, as it does when the first is gone, before Python can.

    A handler of Python's own would never run: it waits for the main thread, and `abort` does not.
    """
    print(f"error: another process of this run is gone; {INTACT}", file=sys.stderr, flush=True)
    os._exit(1)


def is_first() -> bool:
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Until every process is at the same place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def first_decides(decide: Callable[[], bool]) -> bool:
    """What `decide` gives on the first process, to all of them.

    Raises:
      ConfigError: on all of them, if it does there.
    """
    if jax.process_count() == 1:
        return decide()
    value, refusal = 0, None
    if is_first():
        try:
            value = int(decide())
        except ConfigError as error:
            value, refusal = -1, error
    value = int(multihost_utils.broadcast_one_to_all(np.int32(value)))
    if refusal:
        raise refusal
    if value < 0:
        raise ConfigError("the first process of this run refused it, and says why")
    return bool(value)


class Vote:
    """Whether any process was asked to stop. With several, each call answers for the call before: nothing waits."""

    def __init__(self, mesh: Mesh):
        self._place = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._size, self._any, self._asked = mesh.size, jax.jit(lambda asked: asked.any()), None

    def __call__(self, asked: bool) -> bool:
        if jax.process_count() == 1:
            return asked
        before = self._asked
        one = np.full(1, asked)
        self._asked = self._any(jax.make_array_from_callback((self._size,), self._place, lambda _: one))
        return before is not None and bool(before)


def is_loss(error: BaseException | None) -> bool:
    """Whether an error of JAX, or one that it caused, says that another process is gone."""
    if error is None or jax.process_count() == 1:
        return False
    return any(sign in str(error).lower() for sign in SIGNS) or is_loss(error.__cause__)


def _integer(name: str, value, least: int, most: int | None) -> int:
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        raise ConfigError(f"{name} must be an integer of at least {least}, got {value!r}")
    return number
