"""Errors a person can mend: one sentence that names the thing and the mend."""


class UserError(Exception):
    """Something outside the code is wrong (config, file, machine); the CLI prints the message and exits with 2."""
