"""Every error a user can meet, one line each. Its text is for the user: what is wrong, where, what to do."""

from __future__ import annotations


class SwathError(Exception):
    """Base of all; the command line prints its text without a stack trace and leaves with `exit_code`."""

    exit_code = 1


class ConfigurationError(SwathError):
    """A pipeline, option or setting that cannot work; found before anything starts."""

    exit_code = 2


class SourceError(SwathError):
    """The source cannot be listed: missing bucket or folder, wrong credentials."""


class StorageUnavailable(SwathError):
    """An object store stopped answering in the middle of a run; the run can be resumed."""


class WarehouseError(SwathError):
    """The warehouse cannot be read or written."""


class QueryError(SwathError):
    """A query that is wrong, or that would write."""

    exit_code = 2


class ModelError(ConfigurationError):
    """A model file that is missing, altered, or does not fit the operator."""


class MissingDependency(ConfigurationError):
    """A package or system file that the work needs is not installed."""


class AuditFailed(SwathError):
    """The data-quality gate held a run back; nothing was published."""

    exit_code = 3


class RunLocked(SwathError):
    """Another process is driving this run."""


class Conflict(SwathError):
    """Another run replaced the same cells again and again; nothing of this wave was published."""


class RunFailed(SwathError):
    """The engine could not finish the run; it can be resumed."""
