"""One-line errors about options: the name, where it was given, what was found, what was expected."""

from agcam.cli.options.blame import Given, blame, given_to_command
from agcam.cli.options.plain_texts import plain_texts
from agcam.cli.options.refused import refused
from agcam.cli.options.replaced import add_replaced

__all__ = ["Given", "add_replaced", "blame", "given_to_command", "plain_texts", "refused"]
