"""What a load test is asked to do. Durations are seconds."""

from enum import Enum

import msgspec

WARM_UP = 2.0
# What comes later than this after the window is lost.
LATE = 1.0
# All callers have hung up: what a bridge then keeps for longer than 5 s it keeps.
FAREWELL = 7.0
# Beyond all that, for a bridge that takes its time.
PATIENCE = 30.0
# Of a turn: the agent begins to speak when a quarter is over, and the next turn cuts it short.
LONGEST_SPEECH = 0.75


class Agent(Enum):
    OWN = "own"  # the generator's
    BRIDGE = "bridge"  # whichever the bridge has


class Endings(msgspec.Struct, frozen=True):
    """Weights: how calls end."""

    stop: float = 8.0  # the caller hangs up
    cut: float = 1.0  # their socket is lost
    agent: float = 1.0  # the agent ends its session


class Conversation(msgspec.Struct, frozen=True):
    """The agent speaks every `turn`, for `speech`; the share `barge_in` of it is cut short by the
    caller, whose audio never stops: in silence as in speech a frame comes every 20 ms."""

    turn: float = 4.0
    speech: float = 2.0
    barge_in: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    calls: int
    ramp: float  # calls started a second
    seconds: float  # the window in which it is measured
    churn: float = 0.0  # calls ended and started a second, in the window
    endings: Endings = Endings()
    conversation: Conversation = Conversation()
    agent: Agent = Agent.OWN
    agent_port: int = 9002
    pids: tuple[int, ...] = ()  # of the bridge
    speech: str | None = None  # a file of µ-law that callers say to the bridge's agent

    @property
    def length(self) -> float:
        """No call of it is longer."""
        measured = self.calls / self.ramp + WARM_UP + self.seconds + LATE
        return measured + self.farewell + PATIENCE

    @property
    def farewell(self) -> float:
        """An agent that ends its session finishes its turn before."""
        return FAREWELL + self.conversation.turn

    @property
    def call_minutes(self) -> float:
        """No more than these are spent, whatever the bridge does."""
        return (self.calls * self.length + self.churn * self.seconds * self.length) / 60
