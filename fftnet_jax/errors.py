"""What goes wrong in ways that a user can mend, or wait out: each message is one line."""


class ConfigError(ValueError):
    """A setting or a file that cannot be right; the message names it, its value and what would be right."""


class StorageError(Exception):
    """The disk is full, the folder vanished, or can't be written any more; what was saved before is intact."""


class HostLost(Exception):  # noqa: N818
    """Another process of the run ended, or can't be reached."""


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop."""


class Diverged(Exception):  # noqa: N818
    """Too many skipped updates in a row."""
