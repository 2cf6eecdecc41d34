import pytest

from fftnet_jax.ops.stft_plan import FORMS, four_products, plan_stft


def test_a_window_of_one_token_needs_no_blocks():
    assert plan_stft(8, 256, 128, 1, backend="cpu").form == "direct"


@pytest.mark.parametrize("shape", [(8, 256, 256, 32), (8, 1024, 256, 64), (8, 4096, 128, 256)], ids=str)
def test_blocks_for_long_windows(shape):
    plan = plan_stft(*shape, backend="cpu")
    assert plan.form == "linear_phase"
    others = [plan_stft(*shape, backend="cpu", form=form) for form in FORMS]
    assert plan.seconds == min(other.seconds for other in others)
    assert plan_stft(*shape, backend="cpu", hartley=True).form == "blocks"


def test_only_the_lags_that_matter():
    short, whole = (plan_stft(2, 128, 512, 512, backend="cpu", form="direct", past=past) for past in (False, True))
    assert short.seconds < whole.seconds / 2


def test_the_channel_transform_acts_on_the_smaller_side():
    assert plan_stft(1, 64, 256, 32, form="blocks", backend="cpu").features == "data"
    assert plan_stft(64, 4096, 64, 32, form="blocks", backend="cpu").features == "kernel"


@pytest.mark.parametrize("form", FORMS)
def test_a_form_can_be_forced_and_explains_itself(form):
    plan = plan_stft(2, 100, 32, 40, form=form, backend="cpu")
    assert plan.form == form
    assert plan.describe().startswith(f"{plan.name()}: estimated")
    assert all(other.form == form for other in plan.others)


def test_the_explanation_names_what_was_not_taken():
    lines = plan_stft(8, 256, 256, 32, backend="cpu").describe().splitlines()
    assert len(lines) > 3
    assert all(line.startswith("  instead of ") for line in lines[1:])


@pytest.mark.parametrize("name", ["batch", "length", "width", "window"])
def test_sizes_below_one(name):
    sizes = {"batch": 2, "length": 8, "width": 4, "window": 3, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        plan_stft(**sizes)


def test_a_form_that_cannot_run():
    for impossible in ({"hartley": True}, {"length": 8}, {"window": 1}):
        sizes = {"batch": 2, "length": 40, "width": 8, "window": 9} | impossible
        with pytest.raises(ValueError, match="'linear_phase' needs spectrum 'real' and 2 <= W <= N"):
            plan_stft(**sizes, form="linear_phase")


def test_unknown_form():
    with pytest.raises(
        ValueError, match="form must be 'auto' or one of windows, direct, blocks, linear_phase, got 'fast'"
    ):
        plan_stft(1, 2, 3, 4, form="fast")


def test_four_products_only_where_the_kernel_is_most_of_what_is_read():
    assert four_products(2) and not four_products(128)
