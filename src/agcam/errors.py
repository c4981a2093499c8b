"""The errors that agcam raises on purpose. Each message says what was found, what was expected, what to do."""


class AgcamError(Exception):
    """Base of all errors that agcam raises on purpose; the commands print them as one line."""


class DataError(AgcamError):
    """A data set, image, annotation or archive is missing, unreadable or contradicts itself."""


class ModelError(AgcamError):
    """A model, weights file or checkpoint cannot be loaded or cannot be explained."""


class InputError(AgcamError, ValueError):
    """An argument of a call has the wrong shape, type or value."""


class OutputError(AgcamError):
    """A file or folder cannot be written."""


class TrainingError(AgcamError):
    """Training cannot continue: memory ran out, or its numbers are not finite."""


class UnexpectedError(Exception):
    """A bug in another process, as the one line that it reported; the commands print that line as it is."""


def brief(error: Exception | str, most: int = 300) -> str:
    """Shorten another library's error to part of a line of at most `most` characters: it may quote half a file."""
    said = " ".join(str(error).split())
    return f"{said[:most]}…" if len(said) > most else said or type(error).__name__
