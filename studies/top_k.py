"""What the top k log-probabilities of a teacher are worth: the gradient of the divergence against that of all of them.

    python -m studies.top_k

SmolLM2-135M-Instruct reads GSM8K problems; a student stands for each of its tokens with the teacher's logits of another
token ("unrelated") or with its own and noise of 0.3 ("close"). For each k, at temperatures 1 and 2: the cosine between
the gradient for the student's logits and that of the full divergence, averaged over tokens, for the top k with one
bucket for all others, as shards keep them, and for the top k renormalised to 1, which is what not to do. Writes
`studies/results/top_k.json` and `docs/top_k.png`.
"""

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.data import read_problems
from fftnet_jax.distillation import kl_full, kl_top_k, load_teacher

TEMPERATURES = (1.0, 2.0)
WAYS = ("top k and tail", "top k renormalised", "mass", "mass of the worst tenth")
SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)


def cosine(a_RV: jax.Array, b_RV: jax.Array) -> jax.Array:
    norms_R = jnp.linalg.norm(a_RV, axis=1) * jnp.linalg.norm(b_RV, axis=1)
    return (a_RV * b_RV).sum(axis=1) / norms_R


def compare(student_RV: jax.Array, teacher_RV: jax.Array, k: int, temperature: float) -> dict:
    """Mean cosines of the two ways with k tokens, and the mass that the k hold."""
    logps_RV = jax.nn.log_softmax(teacher_RV / temperature)
    logps_RK, ids_RK = jax.lax.top_k(logps_RV, k)
    others_RV = logps_RV.at[jnp.arange(len(ids_RK))[:, None], ids_RK].set(-jnp.inf)
    tail_R = jax.nn.logsumexp(others_RV, axis=1)
    renormalised_RV = jnp.where(others_RV == -jnp.inf, logps_RV, -jnp.inf)
    full_RV = jax.grad(lambda z: kl_full(z, teacher_RV, temperature).sum())(student_RV)
    lumped_RV = jax.grad(lambda z: kl_top_k(z, ids_RK, logps_RK, tail_R, temperature).sum())(student_RV)
    cut_RV = jax.grad(lambda z: kl_full(z, temperature * renormalised_RV, temperature).sum())(student_RV)
    mass_R = jnp.exp(logps_RK).sum(axis=1)
    cosines = [cosine(way_RV, full_RV).mean() for way_RV in (lumped_RV, cut_RV)]
    return dict(zip(WAYS, [*cosines, mass_R.mean(), jnp.quantile(mass_R, 0.1)], strict=True))


def main(argv=None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--teacher", default="smollm2")
    parser.add_argument("--folder", default="", help="GSM8K's folder; by default from the Hugging Face hub")
    parser.add_argument("--num_problems", type=command_line.count, default=8)
    parser.add_argument("--tokens", type=command_line.count, default=512, help="of the problems, at most")
    args = parser.parse_args(argv)
    model, params, tokenizer = load_teacher(args.teacher)
    problems = read_problems(args.folder)[1][: args.num_problems]
    ids = [token for p in problems for token in tokenizer.encode(f"{p.prompt} {p.answer}")][: args.tokens]
    teacher_RV = jax.jit(model.apply)({"params": params}, np.array([ids]))[0]
    noise_RV = 0.3 * jax.random.normal(jax.random.key(0), teacher_RV.shape)
    students = {"unrelated": jnp.roll(teacher_RV, len(ids) // 2, axis=0), "close": teacher_RV + noise_RV}
    compared = jax.jit(compare, static_argnums=(2, 3))
    rows = []
    for temperature, (name, student_RV) in itertools.product(TEMPERATURES, students.items()):
        print(f"\n{name} student, temperature {temperature:g}\n{'k':>7}" + "".join(f"{way:>26}" for way in WAYS))
        for k in SIZES:
            values = compared(student_RV, teacher_RV, k, temperature)
            rows.append({"student": name, "temperature": temperature, "k": k, **{w: float(values[w]) for w in WAYS}})
            print(f"{k:>7}" + "".join(f"{rows[-1][way]:>26.4f}" for way in WAYS), flush=True)
    values = {"teacher": args.teacher, "tokens": len(ids), "hardware": hardware(), "rows": rows}
    write_json(Path("studies/results/top_k.json"), values)
    plot(rows, Path("docs/top_k.png"))


def plot(rows: list[dict], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(TEMPERATURES), sharey=True)
    for axes, temperature in zip(panels, TEMPERATURES, strict=True):
        for way, colour in (("top k and tail", "#1b9e77"), ("top k renormalised", "#d95f02")):
            for student, style in (("unrelated", "-"), ("close", "--")):
                chosen = [row for row in rows if (row["student"], row["temperature"]) == (student, temperature)]
                points = [(row["k"], row[way]) for row in chosen]
                axes.plot(
                    *zip(*points, strict=True), style, color=colour, marker="o", label=f"{way}, {student} student"
                )
        axes.set(xscale="log", xlabel="k", title=f"temperature {temperature:g}")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("cosine with the full gradient")
    panels[-1].legend()
    figure.suptitle("What the teacher's top k are worth (SmolLM2-135M on GSM8K)")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
