"""The one exception that is meant for the person at the keyboard."""


class WtlError(Exception):
    """A problem the user can act on: one clear sentence; the command line exits with status 2."""
