"""What a TPU would compute: a product of default precision from factors rounded to bfloat16, of high from three."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr

from fftnet_jax import ops
from fftnet_jax.config import MIXERS, ModelConfig
from fftnet_jax.mixers import build_mixer
from fftnet_jax.models import build_model

CALLS = ("pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2")
SIZES = {"num_heads": 2, "window": 5, "filter_modes": 4, "filter_width": 7}


def products(jaxpr, found):
    """Calls `found(equation)` for each product, those of inner programs too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found(equation)
        for inner in inner_programs(equation):
            products(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, found)


def inner_programs(equation):
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
    return [leaf for leaf in leaves if hasattr(leaf, "eqns") or isinstance(leaf, ClosedJaxpr)]


def is_default(equation):
    precision = equation.params["precision"]
    return precision is None or set(precision) == {jax.lax.Precision.DEFAULT}


def is_high(equation):
    return set(equation.params["precision"] or ()) == {jax.lax.Precision.HIGH}


def rounded(function):
    """`function` as a TPU computes it, as far as products go."""

    @jax.jit
    def run(*args):
        closed = jax.make_jaxpr(function)(*args)
        tree = jax.tree.structure(jax.eval_shape(function, *args))
        return tree.unflatten(interpret(closed.jaxpr, closed.consts, *jax.tree.leaves(args)))

    return run


def interpret(jaxpr, consts, *args):
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(x):
        return x.val if hasattr(x, "val") else values[x]

    for equation in jaxpr.eqns:
        inputs, params, name = [read(x) for x in equation.invars], dict(equation.params), equation.primitive.name
        if name == "dot_general" and is_default(equation):
            kept = params["preferred_element_type"] or inputs[0].dtype
            inputs = [x.astype(jnp.bfloat16) for x in inputs]
            params["preferred_element_type"] = kept
        out = (
            three_passes(equation, inputs)
            if name == "dot_general" and is_high(equation)
            else evaluate(equation, params, inputs)
        )
        out = out if equation.primitive.multiple_results else [out]
        values.update(zip(equation.outvars, out, strict=True))
    return [read(x) for x in jaxpr.outvars]


def three_passes(equation, inputs):
    """Each factor as a sum of two of bfloat16; the product of the small ones is left out."""
    large = [x.astype(jnp.bfloat16).astype(jnp.float32) for x in inputs]
    small = [(x - y).astype(jnp.bfloat16).astype(jnp.float32) for x, y in zip(inputs, large, strict=True)]
    pairs = (large[0], large[1]), (large[0], small[1]), (small[0], large[1])
    return sum(equation.primitive.bind(*pair, **equation.params) for pair in pairs)


def evaluate(equation, params, inputs):
    name = equation.primitive.name
    if name in (
        "pjit",
        "jit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "checkpoint",
        "remat2",
    ):
        (inner,) = inner_programs(equation)[:1]
        jaxpr, consts = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])
        return interpret(jaxpr, consts, *inputs)
    if name == "scan":
        return interpret_scan(equation, inputs)
    if name == "linear":  # whose function is one of arrays
        closed = jax.make_jaxpr(params["function"])(*inputs)
        return interpret(closed.jaxpr, closed.consts, *inputs)
    for inner in inner_programs(equation):
        products(getattr(inner, "jaxpr", inner), lambda _: pytest.fail(f"a product within {name} is not rounded"))
    return equation.primitive.bind(*inputs, **params)


def interpret_scan(equation, inputs):
    params, closed = equation.params, equation.params["jaxpr"]
    # Counted by their shapes: jax 0.10 has num_consts and num_carry, 0.12 has not.
    taken, given = (
        sum(outer.aval.ndim > inner.aval.ndim for outer, inner in zip(*pairs, strict=True))
        for pairs in ((equation.invars, closed.jaxpr.invars), (equation.outvars, closed.jaxpr.outvars))
    )
    first, rest = len(inputs) - taken - (len(equation.outvars) - given), len(inputs) - taken
    constants, carry, rows = np.split(np.arange(len(inputs)), [first, rest])

    def turn(held, row):
        out = interpret(closed.jaxpr, closed.consts, *[inputs[i] for i in constants], *held, *row)
        return tuple(out[: len(carry)]), tuple(out[len(carry) :])

    start, rows = tuple(inputs[i] for i in carry), tuple(inputs[i] for i in rows)
    held, made = jax.lax.scan(turn, start, rows, params["length"], params["reverse"])
    return [*held, *made]


def drawn(mixer, x):
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def error(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_the_interpreter_rounds_what_a_tpu_rounds():
    x, w = (np.random.default_rng(seed).normal(size=(40, 40)).astype(np.float32) for seed in (0, 1))
    wanted = x @ w
    assert 1e-3 < error(rounded(jnp.matmul)(x, w), wanted) < 1e-2
    assert error(rounded(lambda x, w: jnp.matmul(x, w, precision="highest"))(x, w), wanted) < 1e-6
    looped = lambda x, w: jax.lax.scan(lambda c, _: (c, c @ w), x, None, length=2)[1][1]  # noqa: E731
    assert 1e-3 < error(rounded(looped)(x, w), wanted) < 1e-2


@pytest.mark.parametrize("name", ["cpu", "tpu", "gpu", "reference"])
def test_spectral_parts_stay_exact(name):
    """Convolutions, windows' spectra and DFTs within 1e-5, though every product of default precision is rounded."""
    rng = np.random.default_rng(0)
    u, skip, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 70, 4), (4,), (5, 4, 4)))
    decay, frequency, mix = np.exp(rng.uniform(-5, 0, 3)), rng.uniform(-3, 3, 3), rng.normal(size=(6, 4))
    modes = ops.Modes(*(array.astype(np.float32) for array in (decay, frequency, mix)))
    parts = {
        "long": lambda u: ops.long_convolution(u, modes, skip)[0],
        "state": lambda u: ops.long_convolution(u, modes, skip)[1],
        "stft": lambda u: ops.stft_convolution(u, weight),
        "stft, hartley": lambda u: ops.stft_convolution(u, weight, "hartley"),
    }
    with ops.use(name):
        for part, function in parts.items():
            assert error(rounded(function)(u), function(u)) < 1e-5, part


@pytest.mark.parametrize("gradient", [False, True])
def test_only_dense_projections_of_the_flagship_are_of_default_precision(gradient):
    mixer = build_mixer("causal_fftnet", ModelConfig(width=8, **SIZES))
    x = np.random.default_rng(0).normal(size=(2, 70, 8)).astype(np.float32)
    params = drawn(mixer, x)

    def function(params, x):
        return (mixer.apply(params, x) ** 2).sum()

    default = []
    with ops.use("tpu"):
        jaxpr = jax.make_jaxpr(jax.grad(function, (0, 1)) if gradient else mixer.apply)(params, x)
    products(jaxpr.jaxpr, lambda equation: default.append(equation) if is_default(equation) else None)
    shapes = [tuple(v.aval.shape for v in equation.invars) for equation in default]
    forward = [((2, 70, 8), (8, 24)), ((2, 70, 8), (8, 8))]
    assert shapes[:2] == forward if not gradient else len(shapes) >= 6, shapes
    weights = {(8, 24), (8, 8), (2, 70, 24), (2, 70, 8), (24, 8)}
    assert all(shape in weights for pair in shapes for shape in pair), shapes


@pytest.mark.parametrize("precision, bound", [("default", 3e-2), ("high", 1e-4), ("highest", 1e-5)])
@pytest.mark.parametrize("name", MIXERS)
def test_where_a_whole_model_stands(name, precision, bound):
    """Dense layers follow `model.precision`; what else there is adds no error of its own."""
    family = "decoder" if MIXERS[name] else "encoder"
    sizes = SIZES | {"vocab_size": 13, "width": 8, "ffn_width": 16, "num_layers": 2}
    model = build_model(ModelConfig(mixer=name, family=family, precision=precision, **sizes))
    ids = np.random.default_rng(0).integers(0, 13, (2, 40))
    params = model.init(jax.random.key(0), ids)
    with ops.use("tpu"):
        found = error(rounded(model.apply)(params, ids), model.apply(params, ids))
    assert found < bound and (precision != "default" or found > 1e-6), found


def test_a_bfloat16_run_ends_where_float32_does():
    """Trained under a TPU's rounding, the flagship's loss is within 1% of the float32 run's."""
    rng = np.random.default_rng(0)
    ids = (np.arange(41)[None] * rng.integers(1, 5, (32, 1)) + rng.integers(0, 13, (32, 1))) % 13
    ids = np.where(rng.random(ids.shape) < 0.3, rng.integers(0, 13, ids.shape), ids)  # what can't be learned
    sizes = SIZES | {"vocab_size": 13, "width": 8, "ffn_width": 16, "num_layers": 1, "precision": "default"}

    def last_loss(dtype, compute):
        model, optimizer = build_model(ModelConfig(dtype=dtype, **sizes)), optax.adam(0.01)

        def loss(params):
            logits = model.apply({"params": params}, ids[:, :-1]).astype(jnp.float32)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, 1:, None], axis=2).mean()

        @compute
        def step(params, state):
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(params, updates), state, value

        with ops.use("tpu"), jax.numpy_dtype_promotion("standard"):  # Flax's norms mix types
            params, values = model.init(jax.random.key(0), ids)["params"], []
            state = optimizer.init(params)
            for _ in range(80):
                params, state, value = step(params, state)
                values.append(float(value))
        assert values[-1] < 0.9 * values[0]
        return np.mean(values[-5:])

    assert abs(last_loss("bfloat16", rounded) / last_loss("float32", jax.jit) - 1) < 0.01
