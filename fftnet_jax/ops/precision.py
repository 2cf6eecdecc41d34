"""How exact products are."""

import jax

# Of products with a constant of a definition or a state that must not drift: float32's on every device. A TPU would
# round the factors of a float32 product to bfloat16, a recent GPU to TF32.
EXACT = jax.lax.Precision.HIGHEST
