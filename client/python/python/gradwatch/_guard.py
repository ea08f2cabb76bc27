"""Nothing of ours reaches training: failures are counted, said once, and swallowed."""

from __future__ import annotations

import functools
import os
import textwrap
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gradwatch import _native

# What is ours to catch: all but what the user raises to end the program. A panic of native code is no `Exception`.
CAUGHT = (Exception, _native.PanicException)

# The longest message, in characters.
MAX_MESSAGE = 500


class GradwatchWarning(UserWarning):
    """Something of gradwatch went wrong; training goes on."""


class Failures:
    """Counts what went wrong, and says each kind of it once."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.count = 0
        self._said: set[str] = set()

    def note(self, what: str, error: BaseException) -> None:
        self.count += 1
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._said:
            self._said.add(kind)
            self.say(f"{what} failed, training goes on without it: {words(error)}")

    def warn(self, message: str, kind: str | None = None) -> None:
        """Says something that is no failure of ours; of each kind, the first."""
        kind = kind or message
        if kind not in self._said:
            self._said.add(kind)
            self.say(message)

    def mistake(self, kind: str, message: str) -> None:
        """Something in a call that cannot be: counted, and the first of its kind is said."""
        if self.strict:
            raise ValueError(message)
        self.count += 1
        if kind not in self._said:
            self._said.add(kind)
            self.say(message)

    def say(self, message: str) -> None:
        # One line, whatever was passed to us and stands in it.
        message = textwrap.shorten(message, MAX_MESSAGE, placeholder=" …")
        try:
            warnings.warn(f"gradwatch: {message}", GradwatchWarning, stacklevel=4)
        except Exception:
            # A program that makes errors of warnings wants to hear of its own, not to be stopped by ours; one that shows
            # them in a way of its own may fail at that.
            pass


Method = TypeVar("Method", bound=Callable[..., Any])


def guarded(otherwise: object) -> Callable[[Method], Method]:
    """A method that gives `otherwise` where it fails; its object counts failures in `_failures`.

    Invariant: neither an `Exception` nor a panic ever leaves it, unless the run was made `strict`. KeyboardInterrupt and SystemExit are the
    user's, and pass.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except CAUGHT as error:
                if self._failures.strict:
                    raise
                self._failures.note(method.__name__, error)
                return otherwise

        return cast(Method, call)

    return decorate


class Process:
    """Whether this is still the process that made the run: a forked child shares its memory, not its threads."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def is_ours(self) -> bool:
        return os.getpid() == self._pid


def words(error: BaseException) -> str:
    """What an exception says, where it says anything: a message may be made by whatever was passed to us."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__
