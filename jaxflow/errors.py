"""The exceptions and the warning of jaxflow: every message is written for the caller."""


class JaxflowError(Exception):
    """Base class of every error that jaxflow raises on purpose."""


class InputError(JaxflowError, ValueError):
    """An argument that cannot be used.

    Arguments:
        argument: the name of the argument, as the caller wrote it.
        found: what it was.
        expected: what it should have been.
    """

    def __init__(self, argument: str, found: str, expected: str):
        self.argument = argument
        self.found = found
        self.expected = expected
        super().__init__(f"{argument}: found {found}; expected {expected}.")


class NoAxisError(InputError, TypeError):
    """The members of a result that is of one member, and has no axis of them."""


class NotHomogeneousError(InputError):
    """A network that is not positively homogeneous in its parameters.

    `discrepancy` is the larger of the two relative discrepancies that `jaxflow.order`
    measures: of Euler's identity and of the scaling law.
    """

    def __init__(self, argument: str, found: str, expected: str, discrepancy: float):
        self.discrepancy = discrepancy
        super().__init__(argument, found, expected)


class StudyError(InputError):
    """A study file, or a key in it, that cannot be used.

    Arguments:
        source: the file.
        line: on which the key is, from 1; `None` where there is no text.
        key: as `network.sizes`.
        found: what it was.
        expected: what it should have been.
    """

    def __init__(self, source: str, line: int | None, key: str, found: str, expected: str):
        self.source, self.line, self.key = source, line, key
        where = source if line is None else f"{source}, line {line}"
        super().__init__(f"{where}: {key}", found, expected)


class RunError(JaxflowError, RuntimeError):
    """A run that failed while it was computed, not for its arguments.

    Such as for a function of the caller's that raises when it is called by the compiled
    program (`jax.pure_callback`), or for want of memory. What JAX raised is its cause.
    """


class StoreError(JaxflowError, OSError):
    """A store on disk that is missing, incomplete or of another kind."""


class RunWarning(UserWarning):
    """A call whose result falls short of what was asked for.

    Members that gave up, or that came to the end of a run before any of the stop conditions
    that it was given; a run without a stop condition. There is one for a call, when it
    returns, however many members and reasons there are; a run without a stop condition is
    told so at its beginning. It is silenced as every warning is:

    Examples:
        >>> import warnings, jaxflow as jf
        >>> warnings.filterwarnings("ignore", category=jf.RunWarning)
    """
