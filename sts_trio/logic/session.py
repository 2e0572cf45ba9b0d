"""The agent's session: from the dial to `SettingsApplied`, its loss, and the next one. Pure.

Owns the state of the session (`states.SESSION`), how long it may last, and whether and when another
one is dialled (`reconnect`). A call has one session at a time. One that is lost, handed over or
renewed is followed by the next; for the call's other parts that gap is `close_session` and
`open_session`.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import msgspec

from sts_trio.errors import Cause
from sts_trio.logic.acts import AgentReached, Dial
from sts_trio.logic.reconnect import STEP_TIMEOUT, Reconnect
from sts_trio.logic.states import (
    AGENT_TIMEOUT,
    RETRY_AFTER,
    SESSION,
    SESSION_LIMITS,
    Retry,
    SessionInput,
    SessionState,
    Violation,
)
from sts_trio.wire import deepgram_settings, twilio

# Deepgram ends a session after 2 h, and warns five minutes before. From the warning on, the next
# silence is used to go on in a fresh one; at the latest a minute before the end.
RENEW_WITHIN = 240.0
# From one session to its renewal: an agent that warns at once each time would be dialled without
# end.
RENEW_AGAIN_AFTER = 60.0
RENEWAL_DUE = "MAXIMUM_SESSION_LENGTH_APPROACHING"


class SettingsWanted(msgspec.Struct, frozen=True):
    """For whom the agent's `Settings` are to be made.

    `history` goes into `agent.context.messages`; without `greets`, no greeting is to be said.
    """

    start: twilio.Start
    agent: str
    history: list[dict[str, Any]] = []
    greets: bool = True


Settings = Callable[[SettingsWanted], deepgram_settings.Settings]


class NeedsSettings(msgspec.Struct, frozen=True):
    """The agent waits for its `Settings`; `is_prewarmed`: it was given them before the call."""

    is_prewarmed: bool


class Live(msgspec.Struct, frozen=True):
    """The two sides can talk. `gap`: for how many seconds there was no agent; `None`: the first
    session. `was_lost`: the one before was, else it was let go."""

    gap: float | None = None
    was_lost: bool = False


class Redialling(msgspec.Struct, frozen=True):
    """The session is lost, and another one will follow: `dial` has it as soon as it is due."""


class Down(msgspec.Struct, frozen=True):
    """The session is lost, and none will follow."""


class TookTooLong(msgspec.Struct, frozen=True):
    """A step toward the session was not done in time. It is lost: tell it so by `fail`."""

    cause: Cause
    detail: str


class Session:
    __slots__ = (
        "_begun_at",
        "_deadline",
        "_has_leg",
        "_is_last",
        "_is_prewarmed",
        "_reconnects",
        "_replaced_at",
        "_was_live",
        "agent",
        "is_live",
        "may_speak",
        "owes_greeting",
        "reconnect",
        "renewal_deadline",
        "request_id",
        "state",
    )

    def __init__(self, *, reconnects: bool) -> None:
        self.state = SessionState.NONE
        self.is_live = False
        self.may_speak = False  # whether the agent's audio is allowed; asked of every chunk
        self.agent = ""  # the configured agent that the caller talks with; "": not chosen yet
        self.request_id = ""  # the agent's own name for its newest session
        self.owes_greeting = False  # with these settings the agent speaks first
        self._reconnects = reconnects
        self.reconnect = Reconnect()
        self._begun_at = inf
        self._deadline = inf  # of the state
        self.renewal_deadline = inf  # until then, at the next quiet moment, if not `inf`
        self._has_leg = False
        self._is_last = False
        self._replaced_at = -inf
        self._is_prewarmed = False
        self._was_live = False  # ever, in this call

    @property
    def deadline(self) -> float:
        return min(self._deadline, self.renewal_deadline, self.reconnect.filler_deadline)

    def allows(self, on: SessionInput) -> bool:
        return on in SESSION[self.state]

    def time_to_dial(self, now: float) -> float:
        """How long a dial may still take; a call that no longer waits for one has no limit."""
        return min(AGENT_TIMEOUT, max(0.0, self._deadline - now))

    # --- toward a session -----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The caller is there. Then `dial`."""
        self._begun_at = now
        self.reconnect.begin(now)
        self._enter(SESSION[self.state][SessionInput.DIAL], now)

    def recall(self, agent: str, now: float) -> None:
        """That agent, of another process, is to go on; "": none was chosen yet. Then `dial`."""
        self.agent = agent
        self._was_live = True
        self.begin(now)

    def dial(self) -> Dial | None:
        """The leg that is to be opened now, once."""
        if self._has_leg or not self.allows(SessionInput.REACHED):
            return None
        self._has_leg = True
        return Dial(self.agent or None)

    def hear_reached(self, reached: AgentReached, now: float) -> None:
        self.agent = reached.agent
        self._is_prewarmed = reached.is_prepared
        self._enter(SESSION[self.state][SessionInput.REACHED], now)

    def hear_welcome(self, request_id: str, now: float) -> NeedsSettings | Violation:
        to = SESSION[self.state].get(SessionInput.WELCOME)
        if to is None:
            return Violation("a second Welcome")
        self.request_id = request_id
        self._enter(to, now)
        return NeedsSettings(self._is_prewarmed)

    def hear_settings_applied(self, now: float) -> Live | Violation:
        to = SESSION[self.state].get(SessionInput.APPLIED)
        if to is None:
            return Violation("SettingsApplied out of turn")
        self._enter(to, now)
        self._was_live = True
        if self.reconnect.is_on:
            return Live(*self.reconnect.succeed(now))
        self.reconnect.end()
        return Live()

    # --- from one session to the next -----------------------------------------------------------

    def fail(
        self, retry: Retry, now: float, plays_until: float, *, is_lighter: bool = False
    ) -> Redialling | Down | None:
        """The session is lost. The caller has something to hear until `plays_until`.

        `is_lighter`: the next one would be told less, so it may live where this one died.
        """
        allowed = SESSION[self.state]
        if SessionInput.LOST not in allowed:
            return None
        if retry is Retry.BRIEFLY and not self._was_live:
            if self._may_redial and now + RETRY_AFTER < self._begun_at + AGENT_TIMEOUT:
                self._enter(allowed[SessionInput.LOST_AGAIN], now)
                return Redialling()
        elif self._is_retried(retry) and self.reconnect.redial(now, is_lighter=is_lighter):
            is_now = self.reconnect.dial_deadline <= now
            on = SessionInput.LOST_REDIAL if is_now else SessionInput.LOST_AGAIN
            self.reconnect.begin_gap(now, plays_until)
            self._enter(allowed[on], now)
            return Redialling()
        self.reconnect.end()
        self._enter(allowed[SessionInput.LOST], now)
        return Down()

    def dial_failed(self) -> None:
        """There is no leg to be dropped. Then `fail`."""
        self._has_leg = False

    def finish(self, now: float) -> bool:
        """The agent ends the session in good order; `False`: it had not begun, so it `fail`s."""
        to = SESSION[self.state].get(SessionInput.FINISHED)
        if to is None:
            return False
        self._enter(to, now)
        return True

    def replace(self, agent: str, now: float, plays_until: float) -> bool:
        """That agent is to go on, in a session of its own; `False`: not any more."""
        to = SESSION[self.state].get(SessionInput.REPLACED)
        if to is None or self._is_last:
            return False
        self.agent = agent
        self._replaced_at = now
        self.reconnect.begin_gap(now, plays_until)
        self._enter(to, now)
        return True

    def be_the_last(self) -> None:
        """The call is about to end: no other session is to follow this one."""
        self._is_last = True
        self.renewal_deadline = inf

    def go_on(self) -> None:
        """It is not about to end after all."""
        self._is_last = False

    def close(self, now: float) -> None:
        """The call needs no agent any more."""
        self.reconnect.end()
        self._enter(SESSION[self.state][SessionInput.CLOSED], now)

    def close_session(self, now: float) -> bool:
        """What there was of the session is gone; returns whether there is a leg to be dropped."""
        self.renewal_deadline = inf
        had_leg, self._has_leg = self._has_leg, False
        return had_leg

    # --- time -----------------------------------------------------------------------------------

    def tick(self, now: float) -> TookTooLong | None:
        """Ends what has lasted too long, or waited long enough; then `dial`."""
        if now < self._deadline:
            return None
        cause = SESSION_LIMITS[self.state].cause
        if cause is not None:
            return TookTooLong(cause, f"after {self._limit():g} s")
        self._enter(SESSION[self.state][SessionInput.WAITED], now)
        return None

    def hear_warning(self, code: str, now: float) -> None:
        if code != RENEWAL_DUE or not self._reconnects or self._is_last:
            return
        if now >= self._replaced_at + RENEW_AGAIN_AFTER:
            self.renewal_deadline = now + RENEW_WITHIN

    @property
    def _may_redial(self) -> bool:
        return self._reconnects and not self._is_last and self.allows(SessionInput.LOST_REDIAL)

    def _is_retried(self, retry: Retry) -> bool:
        is_worth_it = self._was_live and retry is not Retry.NEVER
        return self._may_redial and (retry is Retry.ALWAYS or is_worth_it)

    def _enter(self, state: SessionState, now: float) -> None:
        self.state = state
        self.is_live = state is SessionState.LIVE
        self.may_speak = self.allows(SessionInput.AUDIO)
        self._deadline = now + self._limit()

    def _limit(self) -> float:
        """How long the state may last."""
        if (limit := SESSION_LIMITS.get(self.state)) is None:
            return inf
        return min(limit.seconds, STEP_TIMEOUT) if self.reconnect.is_on else limit.seconds


def speaks_first(settings: deepgram_settings.Settings) -> bool:
    """Whether an agent with these settings speaks first. Of a stored one it cannot be told."""
    return isinstance(settings.agent, str) or bool(settings.agent.get("greeting"))
