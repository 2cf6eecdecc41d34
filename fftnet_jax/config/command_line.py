"""The command line of what runs an experiment file: `--config FILE --config.section.field=value`."""

import argparse
import sys
from collections.abc import Callable

from fftnet_jax.config.experiments import load_config
from fftnet_jax.config.schema import Config, describe_fields
from fftnet_jax.errors import ConfigError
from fftnet_jax.signals import leaving


class Arguments(argparse.ArgumentParser):
    """A command line whose errors are one line, like those of the configuration."""

    def error(self, message: str):
        raise ConfigError(message)


def parse_config(
    argv: list[str], description: str, add: Callable[[argparse.ArgumentParser], None] = lambda parser: None
) -> tuple[argparse.Namespace, Config]:
    """The arguments and the configuration that they name; `add` declares further arguments.

    Raises:
      ConfigError: an unknown argument, or a configuration that can't be right.
    """
    parser = Arguments(
        description=description,
        usage="%(prog)s --config FILE [--config.SECTION.FIELD=VALUE ...] [options]",
        epilog="every field of a configuration, with its default:\n" + "\n".join(describe_fields()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="experiment file with get_config()")
    add(parser)
    args, rest = parser.parse_known_args(argv)
    overrides = []
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--config."):
            parser.error(f"unknown argument {flag!r}; fields are set by --config.section.field=value")
        if "=" not in flag and rest and not rest[0].startswith("--"):
            flag += "=" + rest.pop(0)
        overrides.append(flag.removeprefix("--config."))
    return args, load_config(args.config, overrides)


def run_command(action: Callable[[], int], stopped: str | Callable[[], str]) -> int:
    """The exit status of `action`; bad input is one line and 2, Ctrl-C or SIGTERM the line `stopped` and 130."""
    say = stopped if callable(stopped) else lambda: stopped
    try:
        with leaving(say):
            return action()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(say(), file=sys.stderr)
        return 130
