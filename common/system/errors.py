"""The exceptions that end a script with one line, and those that a stranger's file can raise."""

# what a stranger's dictionary can raise while it is read
MISFIT = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError)


class InputError(ValueError):
    """A mistake that the user can mend: what was expected, found, where, and what to do next."""


class LeftToOthersError(RuntimeError):
    """What was asked for is not all there, since other processes had a part of it."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""
