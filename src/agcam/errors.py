"""The errors that agcam raises on purpose. Each message says what was found, what was expected, what to do."""


class AgcamError(Exception):
    """Base of all errors that agcam raises on purpose; the commands print them as one line."""


class DataError(AgcamError):
    """A data set, image, annotation or archive is missing, unreadable or contradicts itself."""


class ModelError(AgcamError):
    """A model, weights file or checkpoint cannot be loaded or cannot be explained."""


class InputError(AgcamError, ValueError):
    """An argument of a call has the wrong shape, type or value."""
