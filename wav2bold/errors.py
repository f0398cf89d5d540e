"""The few exceptions a user can meet.

Each holds what is wrong and what cures it. The parts go to `args` and the sentence is made in
`__str__`, so that every one of them survives pickling between Ray's processes.
"""


class UserError(Exception):
    """A mistake that the user can mend; shown as one line, exit code 2.

    what: what is wrong, with the file or key and the real values.  cure: what to do about it.
    """

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(what, cure)

    @property
    def what(self) -> str:
        return str(self.args[0])

    @property
    def cure(self) -> str:
        return str(self.args[1])

    def __str__(self) -> str:
        return f"{self.what}; {self.cure}" if self.cure else self.what


class StudyError(UserError):
    """The study file, or a configuration, says something impossible."""


class DataError(UserError):
    """A recording, a stimulus or a shard can't be used."""


class StorageError(DataError):
    """Where shards or results go can't be read or written: no recording's fault, and so for all of them."""


class EncoderError(UserError):
    """A speech model can't be loaded or lacks what was asked of it."""


class TrackingError(UserError):
    """MLflow doesn't hold, or can't be asked for, what is needed."""


class ClusterError(UserError):
    """The Ray cluster can't be reached or can't do what is asked."""


def may_not_be_read(path: object) -> DataError:
    """The mistake of a file or folder that its owner keeps from us."""
    return DataError(f"{path}: may not be read", "let yourself read it (chmod, or ask its owner)")


class RunsFailed(Exception):
    """Some runs failed while the others were finished; exit code 1.

    failures: (name, reason) of each failed one.
    """

    def __init__(self, failures: tuple[tuple[str, str], ...]) -> None:
        super().__init__(failures)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.args[0])

    def __str__(self) -> str:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in self.failures)
        return f"{len(self.failures)} failed, the others are done:{lines}"
