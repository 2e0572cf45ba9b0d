"""The functions an agent may call: how they are marked, found, described and run."""

from sts_trio.functions.decorator import HandOver, Options, function, hand_over
from sts_trio.functions.registry import Function, Functions

__all__ = ["Function", "Functions", "HandOver", "Options", "function", "hand_over"]
