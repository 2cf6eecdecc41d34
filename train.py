"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import argparse
import sys
from pathlib import Path

from fftnet_jax.config import Arguments, ConfigError, describe_fields, load_config


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Arguments(
        description=__doc__,
        usage="%(prog)s --config FILE [--config.SECTION.FIELD=VALUE ...] [--workdir DIR]",
        epilog="every field of a configuration, with its default:\n" + "\n".join(describe_fields()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="experiment file with get_config()")
    parser.add_argument("--workdir", metavar="DIR", help="the run's folder (default: runs/NAME of the experiment)")
    args, rest = parser.parse_known_args(argv)
    overrides = []
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--config."):
            parser.error(f"unknown argument {flag!r}; fields are set by --config.section.field=value")
        if "=" not in flag and rest and not rest[0].startswith("--"):
            flag += "=" + rest.pop(0)
        overrides.append(flag.removeprefix("--config."))
    return args, overrides


def main(argv: list[str]) -> int:
    try:
        args, overrides = parse(argv)
        config = load_config(args.config, overrides)
        return run(config, args.workdir or Path("runs") / Path(args.config).stem)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # outside the steps, or a second Ctrl-C
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def run(config, workdir) -> int:
    from fftnet_jax.training import Diverged, Interrupted, train  # JAX's seconds of import, not spent on --help

    try:
        train(config, workdir)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
