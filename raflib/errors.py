"""The one error users are meant to read.

Every check of user input in `raflib` raises `RafError` with a single line that names the file or value, says what was
expected and what to do about it. Programming errors keep Python's own exceptions.
"""


class RafError(ValueError):
    """Bad input: one line naming the thing, what was expected and what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the line alone."""
        return [f"{type(self).__name__}: {self}"]
