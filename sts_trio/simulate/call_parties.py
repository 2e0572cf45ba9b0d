"""Those whom a caller of the simulated carrier is connected to: by `<Dial>`, or out of a queue."""

import contextlib
import math
import uuid
from collections.abc import AsyncIterator

import trio

from sts_trio.simulate import twiml
from sts_trio.simulate.account import Account
from sts_trio.simulate.call_requests import Action
from sts_trio.simulate.party import Party
from sts_trio.simulate.phone import Phone
from sts_trio.simulate.phone_call import Connected


class _Talk:
    """The line to somebody else, from when it was asked for."""

    def __init__(self, status: str) -> None:
        self.began = trio.current_time()
        self.status = status  # as long as nothing else becomes of it
        self.since: float | None = None  # both talk
        self.seconds = 0.0
        self.heard = bytearray()

    async def carry(self, frame: bytes, keys: str, reached: list[str]) -> None:
        self.heard += frame


class CallParties:
    """`number` is the caller's. What the verb's `action` is told goes there, whoever ends it."""

    def __init__(self, account: Account, phone: Phone, number: str, action: Action) -> None:
        self.are_rung = False  # the caller waits for one of them
        self.connected: list[Connected] = []
        self._parties = account.parties
        self._queues = account.queues
        self._phone = phone
        self._number = number
        self._action = action

    async def dial(self, dial: twiml.Dial) -> None:
        known = {number: self._parties.get(number) for number in dial.numbers}
        there = {number: party for number, party in known.items() if party and not party.is_busy}
        first = dial.numbers[0] if dial.numbers else ""
        number = min(there, key=lambda each: there[each].answers_after, default=first)
        caller_id = dial.caller_id or self._number
        status = "busy" if any(known.values()) else "failed"
        talk = _Talk(status)
        try:
            async with self._talking(talk, number, caller_id):
                if number in there:
                    talk.status = "canceled"
                    is_answered = await self._ring(there[number], dial.timeout)
                    talk.status = "no-answer"
                    if is_answered:
                        talk.status = "completed"
                        await self._hear(talk, there[number], dial.time_limit)
        finally:
            self._action.add(
                DialCallStatus=talk.status,
                DialCallSid=f"CA{uuid.uuid4().hex}",
                DialCallDuration=str(round(talk.seconds)),
            )

    async def enqueue(self, enqueue: twiml.Enqueue) -> None:
        party = self._queues.get(enqueue.queue, Party(answers_after=math.inf))
        talk = _Talk("hangup")
        try:
            async with self._talking(talk, enqueue.queue, self._number):
                await self._ring(party, math.inf)
                talk.status = "bridged"
                await self._hear(talk, party, math.inf)
        finally:
            until = trio.current_time() if talk.since is None else talk.since
            self._action.add(
                QueueResult=talk.status,
                QueueSid=f"QU{uuid.uuid4().hex}",
                QueueTime=str(round(until - talk.began)),
            )

    @contextlib.asynccontextmanager
    async def _talking(self, talk: _Talk, who: str, caller_id: str) -> AsyncIterator[None]:
        """What becomes of it is kept, whoever ends it."""
        try:
            yield
        finally:
            if self._phone.line is talk:
                self._phone.line = None
            if talk.since is not None:
                talk.seconds = trio.current_time() - talk.since
            heard = bytes(talk.heard)
            self.connected.append(
                Connected(who, talk.status, talk.began, talk.seconds, caller_id, heard)
            )

    async def _ring(self, party: Party, most: float) -> bool:
        """Whether they answer; meanwhile the caller hears it ring, or music."""
        self.are_rung = True
        try:
            await trio.sleep(min(party.answers_after, most))
        finally:
            self.are_rung = False
        return party.answers_after <= most

    async def _hear(self, talk: _Talk, party: Party, most: float) -> None:
        talk.since = trio.current_time()
        self._phone.line = talk
        with trio.move_on_after(most):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._phone.play, party.says)
                await trio.sleep(party.talks)
                nursery.cancel_scope.cancel()
