"""A recipe in, a zoo entry out."""

from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away
