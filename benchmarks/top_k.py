"""What the top k log-probabilities of a teacher are worth: the gradient of the divergence against that of all of them.

    python -m benchmarks.top_k

SmolLM2-135M-Instruct reads GSM8K problems; a student stands for each of its tokens with the teacher's logits of another
token ("unrelated") or with its own and noise ("close"). For each k: the cosine between the gradient for the student's
logits and that of the full divergence, averaged over tokens, for the top k with one bucket for all others, as shards
keep them, and for the top k renormalised to 1, which is what not to do. Writes `benchmarks/results/top_k.json` and
`docs/top_k.png`.
"""

import argparse
import json
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from fftnet_jax.data import read_problems
from fftnet_jax.distillation import kl_full, kl_top_k, load_teacher

SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)


def cosine(a_RV: jax.Array, b_RV: jax.Array) -> jax.Array:
    norms_R = jnp.linalg.norm(a_RV, axis=1) * jnp.linalg.norm(b_RV, axis=1)
    return (a_RV * b_RV).sum(axis=1) / norms_R


def compare(student_RV: jax.Array, teacher_RV: jax.Array, k: int) -> dict:
    """Mean cosines of the two ways with k tokens, and the mass that the k hold."""
    logps_RV = jax.nn.log_softmax(teacher_RV)
    logps_RK, ids_RK = jax.lax.top_k(logps_RV, k)
    others_RV = logps_RV.at[jnp.arange(len(ids_RK))[:, None], ids_RK].set(-jnp.inf)
    tail_R = jax.nn.logsumexp(others_RV, axis=1)
    renormalised_RV = jnp.where(others_RV == -jnp.inf, logps_RV, -jnp.inf)
    full_RV = jax.grad(lambda z: kl_full(z, teacher_RV, 1.0).sum())(student_RV)
    lumped_RV = jax.grad(lambda z: kl_top_k(z, ids_RK, logps_RK, tail_R, 1.0).sum())(student_RV)
    cut_RV = jax.grad(lambda z: kl_full(z, renormalised_RV, 1.0).sum())(student_RV)
    return {
        "top k and tail": cosine(lumped_RV, full_RV).mean(),
        "top k renormalised": cosine(cut_RV, full_RV).mean(),
        "mass": jnp.exp(logps_RK).sum(axis=1).mean(),
        "mass of the worst tenth": jnp.quantile(jnp.exp(logps_RK).sum(axis=1), 0.1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="smollm2")
    parser.add_argument("--folder", default="", help="GSM8K's folder; by default from the Hugging Face hub")
    parser.add_argument("--num_problems", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512, help="of the problems, at most")
    args = parser.parse_args()
    model, params, tokenizer = load_teacher(args.teacher)
    problems = read_problems(args.folder)[1][: args.num_problems]
    ids = [token for p in problems for token in tokenizer.encode(f"{p.prompt} {p.answer}")][: args.tokens]
    teacher_RV = jax.jit(model.apply)({"params": params}, np.array([ids]))[0]
    noise_RV = 2 * jax.random.normal(jax.random.key(0), teacher_RV.shape)
    students = {"unrelated": jnp.roll(teacher_RV, len(ids) // 2, axis=0), "close": teacher_RV + noise_RV}
    compared = jax.jit(compare, static_argnums=2)
    rows = []
    for name, student_RV in students.items():
        print(f"\n{name} student{'':<6}k   top k and tail   renormalised   teacher's mass   in the worst tenth")
        for k in SIZES:
            values = {key: float(value) for key, value in compared(student_RV, teacher_RV, k).items()}
            rows.append({"student": name, "k": k, **values})
            print(f"{k:>17}" + "".join(f"{value:>17.4f}" for value in values.values()))
    hardware = {"platform": platform.platform(), "device": str(jax.devices()[0]), "jax": jax.__version__}
    file = Path("benchmarks/results/top_k.json")
    file.write_text(
        json.dumps({"teacher": args.teacher, "tokens": len(ids), **hardware, "rows": rows}, indent=1) + "\n"
    )
    plot(rows, Path("docs/top_k.png"))


def plot(rows: list[dict], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for way, colour in (("top k and tail", "#1b9e77"), ("top k renormalised", "#d95f02")):
        for student, style in (("unrelated", "-"), ("close", "--")):
            chosen = [(row["k"], row[way]) for row in rows if row["student"] == student]
            axes.plot(*zip(*chosen, strict=True), style, color=colour, marker="o", label=f"{way}, {student} student")
    axes.set(xscale="log", xlabel="k", ylabel="cosine with the full gradient", ylim=(None, 1.02))
    axes.set_title("What the teacher's top k are worth (SmolLM2-135M on GSM8K)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
