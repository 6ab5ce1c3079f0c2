"""The exceptions that end a script with one line, and those that a stranger's file can raise."""

# what a stranger's dictionary can raise while it is read
MISFIT = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError)


# in what CUDA, cuBLAS and cuDNN say where there was no memory, without a class of its own
_NO_DEVICE_MEMORY = ("out of memory", "ALLOC_FAILED", "unable to find an engine")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of PyTorch is that of a device whose memory does not suffice.

    Goes by name and text, so that PyTorch need not be imported. A CPU's is none of these.
    """
    named = type(error).__name__ == "OutOfMemoryError"
    said = any(words in str(error) for words in _NO_DEVICE_MEMORY)
    return named or (isinstance(error, RuntimeError) and said)


class InputError(ValueError):
    """A mistake that the user can mend: what was expected, found, where, and what to do next."""


class LeftToOthersError(RuntimeError):
    """What was asked for is not all there, since other processes had a part of it."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""
