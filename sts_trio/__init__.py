"""A phone call talks with a speech-to-speech voice agent, on Trio."""

__version__ = "0.1.0"
