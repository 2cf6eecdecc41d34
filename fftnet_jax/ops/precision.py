"""How exact products are."""

import jax

# Of products with a constant of a definition or a state that must not drift: float32's on every device. A TPU would
# round the factors of a float32 product to bfloat16, a recent GPU to TF32.
EXACT = jax.lax.Precision.HIGHEST

# Good to 2^-16 of a factor on a TPU at half the time of EXACT. A GPU would round to TF32.
THREE_PASSES = jax.lax.Precision.HIGH
