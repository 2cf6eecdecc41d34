"""Which form of the causal STFT is cheapest for given shapes: an estimate of the work of each, forward and backward.

    windows   the definition: W copies of the input, an FFT of each, one large product
    direct    a product per lag with the transformed kernel
    blocks    overlap-save: blocks of 2T tokens, short DFTs as matrix products, the kernel in partitions of T lags
    linear_phase   blocks with real spectra, which the original's spectrum "real" has and the Hartley one has not

In direct and blocks the transform over the channels acts on the kernel, or on the data where those are fewer.
"""

from dataclasses import dataclass, replace

from fftnet_jax.ops.bins import SINGLE_STAGE, bins_cost
from fftnet_jax.ops.select import choose

FORMS = ("windows", "direct", "blocks", "linear_phase")
FEW_CHUNKS = 32  # chunks of tokens up to which a block's product reads more of the kernel than it computes
BLOCKS = (32, 128)  # and one block for all lags; sizes between differ little

# Products per second (multiply-adds), bytes per second through memory, FFT operations per second, seconds a
# kernel launch: orders of magnitude of two CPU cores and of one accelerator. Only their ratios matter.
RATES = {"cpu": (4.5e10, 6e9, 1e9, 1e-5), "accelerator": (2e13, 1e12, 1e12, 5e-6)}


@dataclass(frozen=True)
class STFTPlan:
    """How to compute a causal STFT.

    Attributes:
      form: one of `FORMS`.
      block: T, tokens (blocks and linear_phase).
      features: "data" or "kernel", which of the two is transformed over the channels (direct and blocks).
      seconds: the estimate, for comparison only; 0 where nothing was estimated.
      others: what was considered besides, best first.
    """

    form: str
    block: int = 0
    features: str = "kernel"
    seconds: float = 0.0
    others: tuple["STFTPlan", ...] = ()

    def name(self) -> str:
        if self.form == "windows":
            return self.form
        return (
            f"{self.form}{f' of {self.block} tokens' if self.block else ''}, channel transform of the {self.features}"
        )

    def describe(self) -> str:
        """The choice and the estimates behind it, a line each."""
        lines = [f"{self.name()}: estimated {self.seconds * 1e3:.3g} ms forward and backward"]
        return "\n".join([*lines, *(f"  instead of {p.name()}: {p.seconds * 1e3:.3g} ms" for p in self.others)])


def plan_stft(
    batch: int,
    length: int,
    width: int,
    window: int,
    *,
    out: int | None = None,
    past: bool = False,
    hartley: bool = False,
    form: str = "auto",
    backend: str | None = None,
) -> STFTPlan:
    """The cheapest way for (B, N, D) tokens, W tokens per window and `out` outputs (D by default).

    Args:
      past: earlier tokens are given; without them only min(W, N) lags matter.
      form: one of `FORMS` to force it.
      backend: whose rates count, "cpu" or an accelerator; by default that of the implementation at hand.

    Raises:
      ValueError: a size below 1, or an unknown form.
    """
    for name, value in (("batch", batch), ("length", length), ("width", width), ("window", window)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if form != "auto" and form not in FORMS:
        raise ValueError(f"form must be 'auto' or one of {', '.join(FORMS)}, got {form!r}")
    work = _Work(batch, length, width, window, out or width, window if past else min(window, length), past, hartley)
    rates = RATES["cpu" if (backend or choose()) in ("cpu", "reference") else "accelerator"]
    options = []
    for candidate in work.candidates():
        if form in ("auto", candidate.form):
            options.append(replace(candidate, seconds=work.seconds(candidate, rates)))
    if not options:
        raise ValueError("form 'linear_phase' needs spectrum 'real' and 2 <= W <= N; use 'blocks' or 'auto'")
    best, *others = sorted(options, key=lambda plan: plan.seconds)
    return replace(best, others=tuple(others))


def four_products(chunks: int) -> bool:
    """Whether the form "blocks" takes four real products a complex one, for so many chunks of tokens in the batch."""
    return chunks <= FEW_CHUNKS


@dataclass(frozen=True)
class _Work:
    """Multiply-adds and bytes of a plan: products count three times (forward, two gradients), constant maps twice."""

    batch: int
    length: int
    width: int
    window: int
    out: int
    lags: int
    past: bool
    hartley: bool

    def candidates(self):
        # Above one stage a block must have factors; a few lags more cost nothing.
        whole = self.lags if self.lags <= SINGLE_STAGE else -(-self.lags // 32) * 32
        yield STFTPlan("windows")
        for features in ("data", "kernel"):
            yield STFTPlan("direct", 0, features)
            for block in sorted({whole, *(size for size in BLOCKS if size < self.lags)}):
                yield STFTPlan("blocks", block, features)
        if not self.hartley and 2 <= self.window == self.lags:
            yield STFTPlan("linear_phase", whole)

    def seconds(self, plan: STFTPlan, rates) -> float:
        products, memory, transforms, launch = rates
        macs, numbers, butterflies, steps = getattr(self, f"_{plan.form}")(plan)
        return macs / products + 4 * numbers / memory + butterflies / transforms + steps * launch

    def _windows(self, plan):
        tokens = self.batch * self.length
        size = tokens * self.window * self.width
        bits = (self.window * self.width).bit_length()
        return 3 * size * self.out, 16 * size, 10 * size * bits, 20

    def _direct(self, plan):
        tokens = self.batch * self.length
        macs = 3 * tokens * self.lags * self.width * self.out
        kernel = self._kernel(self.lags, plan, 0)
        # Forward and backward, at twice the rate (CPU).
        features = tokens * self.width**2 if plan.features == "data" else 0
        launches = 4 * self.lags + (20 if plan.features == "data" else 40)
        # The copies of the input are still in the caches when the product reads them.
        numbers = (tokens * (self.width + self.out) * self.lags + self._kernel_numbers(self.lags)) / 2
        return macs + 1.5 * kernel + features, numbers, 0, launches

    def _blocks(self, plan):
        size = plan.block
        partitions, chunks = -(-self.lags // size), self.batch * -(-self.length // size)
        four = four_products(chunks)
        rows = 2 * size + 2 if four else 3 * size - 1
        products = 3 * rows * chunks * partitions * self.width * self.out * (2 if four else 1)
        halves = 1 if self.length <= size and not self.past else 2  # each chunk is transformed once or twice
        bins = 2 * chunks * (self.width * bins_cost(size, 3, halves * size) + self.out * bins_cost(size, 3))
        features = chunks * size * self.width**2 if plan.features == "data" else 0
        one_stage = size <= SINGLE_STAGE and partitions == 1
        kernel = self._kernel(
            rows if one_stage else self.lags, plan, 0 if one_stage else partitions * bins_cost(size, 3)
        )
        numbers = rows * chunks * (4 * self.width * partitions + 4 * self.out) + self._kernel_numbers(rows * partitions)
        return products + bins + features + kernel, numbers, 0, 30 + rows / 4

    def _linear_phase(self, plan):
        size, half = plan.block, self.width // 2
        chunks, tokens = self.batch * -(-self.length // size), self.batch * self.length
        products = 3 * (2 * (size + 1) * chunks * self.width + tokens * half) * self.out
        maps = (
            2 * chunks * (self.width * bins_cost(size, 2, 2 * size) + self.out * bins_cost(size, 2))
            + 2 * chunks * size * self.width**2
        )
        kernel = self.width * self.out * (size + 1) * self.window
        numbers = 2 * (size + 1) * chunks * (6 * self.width + 6 * self.out) + self._kernel_numbers(size + 1)
        return products + maps + kernel, numbers, 0, 30 + size / 4

    def _kernel(self, rows, plan, bins):
        size = self.width * self.out
        fold = 2 if self.hartley else 1
        if plan.features == "data":
            return 2 * size * (fold * rows * self.window / 2 + bins)
        return 2 * size * (fold * rows * self.window + fold * self.window * self.width / 2 + bins)

    def _kernel_numbers(self, rows):
        return self.width * self.out * 5 * (rows + self.window)
