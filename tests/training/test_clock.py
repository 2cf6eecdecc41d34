from fftnet_jax.training import clock


def test_speed_leaves_pauses_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    made = clock.Clock(0)
    now[0] = 2.0
    with made.pause():
        now[0] = 50.0
    now[0] = 52.0
    assert made.speed(4, 100) == 100.0
    now[0] = 53.0
    assert made.speed(6, 100) == made.rate == 200.0
