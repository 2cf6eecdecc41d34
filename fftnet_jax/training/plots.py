"""Pictures of a run: its loss curves and its learned filters."""

from pathlib import Path

import numpy as np


def plot_loss(rows: list[dict], path: Path, title: str) -> None:
    """Training and validation loss against the step, from the rows of metrics.jsonl."""
    figure = _figure((7, 4))
    axes = figure.subplots()
    train, val = _points(rows, "train/loss"), _points(rows, "val/loss")
    if train:
        axes.plot(*zip(*train, strict=True), color="#9ecae1", linewidth=1, label="training, one batch")
    if val:
        best = min(val, key=lambda point: point[1])
        axes.plot(*zip(*val, strict=True), color="#08519c", marker="o", markersize=4, label="validation, whole split")
        axes.annotate(f"{best[1]:.3f}", best, textcoords="offset points", xytext=(0, 8), ha="center", color="#08519c")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    if train or val:
        axes.legend()
    figure.savefig(path, dpi=120)


def plot_filters(responses: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Magnitude over frequency and channel, one panel per layer; `responses` holds (title, (F, D))."""
    columns = min(4, len(responses))
    rows = -(-len(responses) // columns)
    figure = _figure((4 * columns, 3 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(responses) :]:
        axes.set_axis_off()
    for axes, (title, magnitude_FD) in zip(panels, responses, strict=False):
        image = axes.imshow(
            _decibels(magnitude_FD), aspect="auto", origin="lower", extent=(0, magnitude_FD.shape[1], 0, 0.5)
        )
        axes.set(title=title, xlabel="channel (by spectral centroid)", ylabel="cycles per token")
        figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=110)


def read_picture(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) bytes, for TensorBoard."""
    import matplotlib.image

    return (matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)


def _figure(inches: tuple[float, float]):
    from matplotlib.figure import Figure  # its half a second is not spent before the first step

    return Figure(figsize=inches, layout="constrained")


def _points(rows: list[dict], name: str) -> list[tuple[int, float]]:
    found = [(row["step"], row.get(name)) for row in rows]
    return [(step, value) for step, value in found if value is not None and np.isfinite(value)]


def _decibels(magnitude_FD: np.ndarray) -> np.ndarray:
    """dB below each panel's peak, at most 60, channels ordered from low-pass to high-pass."""
    frequency_F1 = np.linspace(0, 0.5, magnitude_FD.shape[0])[:, None]
    centroid_D = (frequency_F1 * magnitude_FD).sum(0) / np.maximum(magnitude_FD.sum(0), 1e-12)
    ordered_FD = magnitude_FD[:, np.argsort(centroid_D)]
    return np.maximum(20 * np.log10(np.maximum(ordered_FD, 1e-12) / max(ordered_FD.max(), 1e-12)), -60)
