"""The exceptions that end a script with one line, and those that a stranger's file can raise."""

# what a stranger's dictionary can raise while it is read
MISFIT = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError)


class InputError(ValueError):
    """A mistake that the user can mend: what was expected, found, where, and what to do next."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""
