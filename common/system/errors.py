"""The one exception for mistakes that a user can mend."""


class InputError(ValueError):
    """A mistake that the user can mend: what was expected, found, where, and what to do next."""
