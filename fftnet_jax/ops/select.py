"""Which implementation of an operation runs. This file alone knows a platform."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from fftnet_jax.config.model import IMPLEMENTATIONS

_PLATFORMS = {"cpu": "cpu", "tpu": "tpu", "gpu": "gpu", "cuda": "gpu", "rocm": "gpu"}
# Contexts that JAX's caches know of: a jitted function is traced anew where they change.
_USED = jax.make_user_context("auto")
_TARGET = jax.make_user_context("")


@contextlib.contextmanager
def use(name: str):
    """Context in which every operation runs as `name` says, whatever mixers and configuration ask for.

    Args:
      name: "reference", the definitions; "cpu", "tpu" or "gpu", what is fast there (all run on a CPU too); "auto", what
        mixers and configuration ask for.

    Raises:
      ValueError: another name.
    """
    with _USED(_known(name)):
        yield


@contextlib.contextmanager
def compiled_for(devices: jax.sharding.Mesh | Iterable[jax.Device]):
    """Context in which "auto" means these devices: a mesh, or devices of which ahead-of-time compilation knows.

    No devices leave it as it is.
    """
    devices = devices.devices.flat if isinstance(devices, jax.sharding.Mesh) else devices
    platforms = {device.platform for device in devices}
    with _TARGET(platforms.pop() if platforms else _TARGET.value):
        yield


def on_tpu(function: Callable, otherwise: Callable, *arguments):
    """`function(*arguments)` in a program for a TPU, which alone can run its kernels, `otherwise` in any other.

    Not for derivatives: see `ops.kernel`.
    """
    leaves, tree = jax.tree.flatten(arguments)
    out_tree = jax.tree.structure(jax.eval_shape(otherwise, *arguments))

    def flat(function):
        return lambda *leaves: tuple(jax.tree.leaves(function(*tree.unflatten(leaves))))

    return out_tree.unflatten(_on_tpu_p.bind(*leaves, function=flat(function), otherwise=flat(otherwise)))


# Not `jax.lax.platform_dependent`, a branch, in which who reads a program would look for products that aren't there.
_on_tpu_p = Primitive("on_tpu")
_on_tpu_p.multiple_results = True
_on_tpu_p.def_impl(lambda *leaves, **both: jax.jit(functools.partial(_on_tpu_p.bind, **both))(*leaves))
_on_tpu_p.def_abstract_eval(lambda *avals, function, otherwise: jax.make_jaxpr(otherwise)(*avals).out_avals)
mlir.register_lowering(_on_tpu_p, mlir.lower_fun(lambda *leaves, function, otherwise: otherwise(*leaves), True))
mlir.register_lowering(
    _on_tpu_p, mlir.lower_fun(lambda *leaves, function, otherwise: function(*leaves), True), platform="tpu"
)


def _batch_on_tpu(leaves, axes, **both):
    both = {name: jax.vmap(function, axes) for name, function in both.items()}
    out = _on_tpu_p.bind(*leaves, **both)
    return out, [0] * len(out)


batching.primitive_batchers[_on_tpu_p] = _batch_on_tpu


def explain(implementation: str = "auto") -> tuple[str, str]:
    """The implementation that runs, and why.

    Raises:
      ValueError: an unknown name.
    """
    for name, why in ((_USED.value, "ops.use asks for it"), (_known(implementation), "the mixer's field asks for it")):
        if name != "auto":
            return name, why
    platform, why = _platform()
    return _PLATFORMS.get(platform, "reference"), f"{why} a {platform.upper()}"


def choose(implementation: str = "auto") -> str:
    """The implementation that runs: "reference", "cpu", "tpu" or "gpu"."""
    return explain(implementation)[0]


def _platform() -> tuple[str, str]:
    if _TARGET.value:
        return _TARGET.value, "the program is compiled for"
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return device.platform, "the mesh at hand is of"
    device = jax.config.jax_default_device
    if device is not None:
        return getattr(device, "platform", device), "jax.default_device is"
    return jax.default_backend(), "JAX's default backend is"


def _known(name: str) -> str:
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, got {name!r}")
    return name


class Operation:
    """A definition that may have faster implementations; called as the definition is, and with `implementation=`.

    `@operation` makes one of a function, its reference; `@NAME.implements("cpu")` adds another. An implementation takes
    the same arguments and gives the same values and gradients.
    """

    def __init__(self, reference: Callable, check: Callable | None):
        functools.update_wrapper(self, reference)
        self.reference, self._check = reference, check
        self._forms = {"reference": reference}

    def implements(self, *names: str) -> Callable[[Callable], Callable]:
        """Decorator of an implementation for each of `names`."""

        def add(function: Callable) -> Callable:
            self._forms.update(dict.fromkeys(map(_known, names), function))
            return function

        return add

    def __call__(self, *arguments, implementation: str = "auto", **options):
        if self._check:
            self._check(*arguments, **options)
        return self.form(choose(implementation))(*arguments, **options)

    def has(self, implementation: str = "auto") -> bool:
        """Whether what runs is not the definition."""
        return choose(implementation) in self._forms.keys() - {"reference"}

    def form(self, name: str) -> Callable:
        """What runs as `name`: the definition where nothing else is there."""
        return self._forms.get(name, self.reference)


def operation(reference: Callable | None = None, *, check: Callable | None = None):
    """Decorator that makes an `Operation` of its definition.

    Args:
      check: called with the same arguments ahead of any implementation; raises ValueError for what can't be computed.
    """
    if reference is None:
        return functools.partial(operation, check=check)
    made = Operation(reference, check)
    made.__signature__ = inspect.signature(reference)
    return made
