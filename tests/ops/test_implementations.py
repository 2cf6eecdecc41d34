"""Every implementation of every operation gives its definition's values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax import ops
from fftnet_jax.ops.cpu import long as cpu_long
from fftnet_jax.ops.tpu import fourier as tpu_fourier
from fftnet_jax.ops.tpu import long as tpu_long

FASTER = ("cpu", "tpu", "gpu")


def faster(operation):
    """The names of its implementations, one for each."""
    names = {operation.form(name): name for name in reversed(FASTER)}
    return [name for form, name in names.items() if form is not operation.reference]


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def with_gradients(function, *args):
    """Values and, for random cotangents, gradients; a leaf each."""

    @jax.jit
    def run(*args):
        y, pull = jax.vjp(function, *args)
        leaves, tree = jax.tree.flatten(y)
        dy = [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
        return leaves, jax.tree.leaves(pull(tree.unflatten(dy)))

    return run(*args)


def assert_same(found, wanted, tolerance=1e-5):
    for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert new.shape == old.shape
        assert np.abs(new - old).max() <= tolerance * max(np.abs(old).max(), 1e-3)


def modes_of(seed, width, count=4, slowest=1e-3):
    rng = np.random.default_rng(seed)
    decay, frequency = np.exp(rng.uniform(np.log(slowest), 0, count)), rng.uniform(-3, 3, count)
    return ops.Modes(*(array.astype(np.float32) for array in (decay, frequency, rng.normal(size=(2 * count, width)))))


@pytest.mark.parametrize("length", [1, 2, 64, 97, 150])
@pytest.mark.parametrize("start", [None, 1000])
def test_long_convolution(length, start):
    u, skip, state = draw(0, (2, length, 3), (3,), (2, 8, 3))

    def run(name):
        long = partial(ops.long_convolution, start=start or 0, implementation=name)
        return with_gradients(lambda u, modes, skip, state: long(u, modes, skip, state), u, modes_of(1, 3), skip, given)

    given = None if start is None else state
    wanted = run("reference")
    for name in faster(ops.long_convolution):
        assert_same(run(name), wanted)


@pytest.mark.parametrize("block, group", [(1, 1), (16, 2), (50, 5), (512, 32)])
def test_blocks_and_groups_of_any_size(block, group):
    u, skip, state = draw(0, (2, 130, 5), (5,), (2, 8, 5))
    args = u, modes_of(1, 5), skip, state
    wanted = with_gradients(partial(ops.long_convolution.reference, start=70), *args)
    assert_same(with_gradients(partial(cpu_long.convolve, start=70, block=block, group=group), *args), wanted)
    assert_same(with_gradients(partial(tpu_long.convolve, start=70, size=block, together=group), *args), wanted)


@pytest.mark.parametrize("name", ["reference", *faster(ops.long_convolution)])
def test_from_a_state_to_a_state(name):
    """In pieces, the state handed on, as in one go; and nothing is computed of a state that nobody wants."""
    u, skip = draw(0, (2, 150, 3), (3,))
    modes, long = modes_of(2, 3), jax.jit(partial(ops.long_convolution, implementation=name))
    whole, last = long(u, modes, skip)
    state, parts, place = None, [], 0
    for count in (1, 70, 3, 76):
        y, state = long(u[:, place : place + count], modes, skip, state, place)
        parts.append(y)
        place += count
    assert_same([np.concatenate(parts, axis=1), state], [whole, last])
    assert ops.long_convolution(u, modes, skip, final_state=False, implementation=name)[1] is None


@pytest.mark.parametrize("name", faster(ops.long_convolution))
def test_slow_modes_stay_exact_over_many_blocks(name):
    length, width = 20_000, 2
    (u,), modes = draw(0, (1, length, width)), modes_of(0, width, 8, slowest=1e-6)
    decay, frequency, mix = (array.astype(float) for array in modes)
    t = np.arange(length)[:, None]
    envelope, angle = np.exp(-t * decay), t * frequency
    taps = np.concatenate([envelope * np.cos(angle), envelope * np.sin(angle)], axis=1) @ mix
    U, H = (np.fft.rfft(array, n=2 * length, axis=-2) for array in (u.astype(float), taps))
    wanted = np.fft.irfft(U * H, axis=-2)[:, :length]
    found = jax.jit(partial(ops.long_convolution, implementation=name))(u, modes, jnp.zeros(width))[0]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("length, taps", [(1, 1), (1, 4), (7, 3), (129, 4), (300, 9)])
def test_short_convolution(length, taps):
    args = draw(0, (2, length + taps - 1, 3), (taps, 3))
    wanted = with_gradients(ops.short_convolution.reference, *args)
    for name in faster(ops.short_convolution):
        assert_same(with_gradients(partial(ops.short_convolution, implementation=name), *args), wanted)


@pytest.mark.parametrize("length, window, past", [(1, 1, False), (1, 3, True), (7, 5, True), (16, 40, False)])
@pytest.mark.parametrize("spectrum, norm", [("real", "none"), ("hartley", "ortho")])
def test_stft_convolution(length, window, past, spectrum, norm):
    x, weight, before = draw(0, (2, length, 3), (window, 3, 4), (2, window - 1, 3))

    def run(name):
        def stft(x, weight, before):
            return ops.stft_convolution(x, weight, spectrum, norm, before, implementation=name)

        return with_gradients(stft, x, weight, before if past else None)

    wanted = run("reference")
    for name in faster(ops.stft_convolution):
        assert_same(run(name), wanted)


@pytest.mark.parametrize("name, length, width, window", [
    ("tpu", 2, 1, 2),
    ("tpu", 30, 7, 9),
    ("tpu", 64, 6, 8),
    ("tpu", 150, 3, 131),
    ("gpu", 33, 8, 13),
])  # fmt: skip
def test_stft_of_linear_phase(name, length, width, window):
    """With and without a past, whole blocks and not, odd and even channels and windows, blocks longer than a tile."""
    x, weight, before = draw(0, (2, length, width), (window, width, 4), (2, window - 1, width))

    def run(name, form, before):
        def stft(x, weight, before):
            return ops.stft_convolution(x, weight, "real", "ortho", before, form, implementation=name)

        return with_gradients(stft, x, weight, before)

    for past in (None, before):
        assert_same(run(name, "linear_phase", past), run("reference", "auto", past))


@pytest.fixture(params=[1024, 4])
def single(request, monkeypatch):
    """DFTs of one product, and of two stages."""
    monkeypatch.setattr(tpu_fourier, "SINGLE", request.param)


@pytest.mark.parametrize("length", [1, 2, 7, 45, 64])
def test_real_dft_and_back(length, single):
    """Values and gradients of each, by its definition."""
    (u,) = draw(0, (2, length, 3))
    turn_F = np.exp(0.1j * np.arange(length)).astype(np.complex64)
    for name in faster(ops.rfft):

        def there_and_back(u, name=name):
            U = ops.rfft(u, implementation=name)
            back = ops.irfft(U * turn_F[None, : U.shape[1], None], length, implementation=name)
            return U.real, U.imag, back

        wanted = with_gradients(partial(there_and_back, name="reference"), u)
        assert_same(with_gradients(there_and_back, u), wanted)


@pytest.mark.parametrize("length, width", [(1, 1), (7, 2), (45, 6), (64, 5)])
def test_real_dft_over_channels_and_tokens(length, width, single):
    (x,) = draw(0, (2, length, width))

    def both(x, name):
        return ops.real_token_dft(ops.channel_dft(x, implementation=name), implementation=name)

    wanted = with_gradients(partial(both, name="reference"), x)
    for name in faster(ops.channel_dft):
        assert_same(with_gradients(partial(both, name=name), x), wanted)
        low = both(jnp.asarray(x, jnp.bfloat16), name)
        assert low.dtype == jnp.bfloat16
        assert_same([low.astype(jnp.float32)], wanted[0], 2e-2)


def test_what_is_too_long_for_products(monkeypatch):
    """A prime beyond what one product takes: the definition's FFT."""
    monkeypatch.setattr(tpu_fourier, "SINGLE", 4)
    monkeypatch.setattr(tpu_fourier, "LARGEST", 4)
    (u,) = draw(0, (2, 7, 3))
    for function in (ops.rfft, lambda u, implementation: ops.real_token_dft([u + 0j], implementation=implementation)):
        assert_same([function(u, implementation="tpu")], [function(u, implementation="reference")])


@pytest.mark.parametrize("length, taps", [(1, 1), (2, 4), (13, 3)])
def test_gated_convolution(length, taps):
    z, taps, skip = draw(0, (2, length, 9), (taps, 9), (3,))
    args = z, taps, modes_of(1, 3), skip
    wanted = with_gradients(ops.gated_convolution.reference, *args)
    for name in faster(ops.gated_convolution):
        assert_same(with_gradients(partial(ops.gated_convolution, implementation=name), *args), wanted)


@pytest.mark.parametrize("length", [1, 7, 130])
def test_causal_attention(length):
    args = draw(0, (2, length, 4, 6), (2, length, 2, 6), (2, length, 2, 6))
    wanted = with_gradients(ops.causal_attention.reference, *args)
    for name in faster(ops.causal_attention):
        assert_same(with_gradients(partial(ops.causal_attention, implementation=name), *args), wanted)


@pytest.mark.parametrize("name", ["reference", *faster(ops.head_parts)])
def test_a_prepared_head(name):
    x, weight = draw(0, (2, 5), (5, 13))
    parts = ops.head_parts(weight, implementation=name)
    np.testing.assert_allclose(ops.head_logits(x, parts), x @ weight, atol=1e-5)
