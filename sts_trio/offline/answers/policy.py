"""What the car seller says: a deterministic answer to each turn, by its domain. Pure.

There is one form to fill in: a slot is asked for after the other, any can be given at any time, and
nothing is done before the caller has confirmed all of it. Questions in between are answered, and
then the form goes on where it was.

What the client has functions for is left to them: the form, and answers that name one. Which desk
of the house this is follows from that: who cannot book, but can hand over, does.

A conversation that another session began is recalled by going through it again, in silence.
"""

import enum
from collections.abc import Container
from typing import Any

import msgspec

from sts_trio.offline.answers.understanding import Meaning, Understanding
from sts_trio.offline.domain import Answer, Domain
from sts_trio.offline.protocol.script import CallFunction, Line
from sts_trio.offline.speech.sentence_queue import sentences


class Stage(enum.Enum):
    """Where the form stands."""

    IDLE = enum.auto()
    OFFERED = enum.auto()
    FILLING = enum.auto()
    CONFIRMING = enum.auto()
    BEING_DONE = enum.auto()


class _Job(msgspec.Struct, frozen=True):
    """A function that is being run for an answer, see `Answer`."""

    function: str
    told: str | None
    otherwise: str  # said of a result that is none


class Policy:
    thought = "Cues and slots of a small domain; no language model."

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._form = domain.form
        self._understanding = Understanding(domain)
        self._answers = {answer.name: answer for answer in domain.answers}
        self._stage = Stage.IDLE
        self._values: dict[str, str] = {}  # {slot: value}
        self._job: _Job | None = None
        self._last = ""
        self._said = ""  # of `_last`, by the session that was lost

    def reply(self, words: str, functions: Container[str] = ()) -> Line:
        line = self._reply(self._understanding.understand(words), functions)
        if isinstance(line, str):
            self._last = line
        self._said = ""
        return line

    def go_on(self, result: str) -> str:
        """The function has returned."""
        job, self._job = self._job, None
        if job is not None:
            self._last = self._then_go_on(self._told(job, result))
        elif self._stage is not Stage.BEING_DONE:
            # The caller typed on, and so it was called off.
            self._last = self._domain.says.help
        elif (reason := _failure(result)) is not None:
            # For the caller to change what was wrong.
            self._stage = Stage.FILLING
            self._last = f"{self._form.failed} {reason}"
        else:
            self._last = self._finish()
        return self._last

    def recall_caller(self, words: str, functions: Container[str] = ()) -> None:
        self.reply(words, functions)

    def recall_agent(self, words: str) -> None:
        if not self._last.startswith(words):
            # A greeting, or what another agent said.
            self._last = words
        self._said = words

    def recall_function(self, name: str, result: str) -> None:
        is_form = self._stage is Stage.BEING_DONE and name == self._form.name
        if is_form or (self._job is not None and name == self._job.function):
            self.go_on(result)
            self._said = ""

    def speak_up(self) -> str:
        """Nobody said anything: what it waits for, or what it can do."""
        return self._next() if self._is_busy else self._domain.says.help

    def _reply(self, meaning: Meaning, functions: Container[str]) -> Line:
        says = self._domain.says
        if self._stage is Stage.BEING_DONE:
            # The caller spoke before it was done, and it was called off.
            self._stage = Stage.CONFIRMING
        self._job = None
        if "cancel" in meaning.meant:
            was_busy = self._is_busy
            self._stage = Stage.IDLE
            self._values.clear()
            return says.cancelled if was_busy else says.nothing_to_cancel
        if "repeat" in meaning.meant:
            return self._last or says.help
        if "proceed" in meaning.meant:
            return self._rest() or says.help
        if "help" in meaning.meant:
            return self._then_go_on(says.help)
        question = self._question(meaning)
        if question is not None:
            return self._answer(question, meaning, functions)
        if self._is_busy:
            return self._fill(meaning, functions)
        return self._chat(meaning, functions)

    @property
    def _is_busy(self) -> bool:
        return self._stage in (Stage.FILLING, Stage.CONFIRMING)

    def _question(self, meaning: Meaning) -> Answer | None:
        """The question that was asked, if that is what the turn was for."""
        for name in meaning.meant:
            if name == self._form.name and not self._is_busy:
                return None
            answer = self._answers.get(name)
            if answer is None or answer.small_talk:
                continue
            if answer.slot is None or answer.slot in meaning.values:
                return answer
        return None

    def _rest(self) -> str:
        """What was being said, from the sentence on that may have been cut."""
        heard = len(sentences(self._said))
        return " ".join(sentences(self._last)[max(0, heard - 1) :])

    def _answer(self, answer: Answer, meaning: Meaning, functions: Container[str]) -> Line:
        self._note(meaning, self._form.about)
        said = answer.say
        for slot, by_value in answer.by.items():
            known = self._values.get(slot)
            if known is not None and (slot in meaning.values or slot in self._form.about):
                said = by_value.get(known, said)
        if not self._is_busy or answer.leaves_form:
            is_offer = answer.offers_form and said != answer.say
            self._stage = Stage.OFFERED if is_offer else Stage.IDLE
        function = answer.function or ""
        if function in functions and all(each in self._values for each in answer.arguments):
            arguments = self._given(answer.arguments)
            return self._call(_Job(function, answer.told, said), arguments)
        return self._then_go_on(said)

    def _chat(self, meaning: Meaning, functions: Container[str]) -> Line:
        """Nothing is being filled in and nothing was asked."""
        says = self._domain.says
        wants_form = self._form.name in meaning.meant
        if wants_form or (self._stage is Stage.OFFERED and "yes" in meaning.meant):
            return self._begin(meaning, functions)
        self._stage = Stage.IDLE
        for answer in self._answers.values():
            # A slot's value alone may be a question.
            if answer.slot is not None and answer.slot in meaning.values:
                return self._answer(answer, meaning, functions)
        for name in meaning.meant:
            if name in self._answers and self._answers[name].small_talk:
                return self._answers[name].say
        if "no" in meaning.meant:
            return says.nothing_to_cancel
        if "yes" in meaning.meant:
            return says.nothing_to_confirm
        return f"{says.lost} {says.help}"

    # --- functions --------------------------------------------------------------------------------

    def _call(self, job: _Job, arguments: dict[str, str]) -> CallFunction:
        self._job = job
        return CallFunction(job.function, arguments)

    def _given(self, slots: Container[str]) -> dict[str, str]:
        """The values of these slots as functions are given them."""
        return {
            slot: self._domain.slots[slot].given.get(value, value)
            for slot, value in self._values.items()
            if slot in slots
        }

    def _told(self, job: _Job, result: str) -> str:
        reason = _failure(result)
        if reason is not None:
            return f"{self._domain.says.failed} {reason}"
        value = _decoded(result)
        read_out = _sentence(_read_out(value)) or job.otherwise
        if job.told is None:
            return read_out
        try:
            return job.told.format_map(value if isinstance(value, dict) else {})
        except KeyError:  # a function that tells something else
            return read_out

    # --- the form ---------------------------------------------------------------------------------

    def _begin(self, meaning: Meaning, functions: Container[str]) -> Line:
        instead = self._form.instead or ""
        if instead in functions and self._form.name not in functions:
            return self._call(_Job(instead, None, self._domain.says.failed), {})
        for slot in self._form.slots:
            self._values.pop(slot.name, None)
        self._stage = Stage.FILLING
        self._note(meaning, [*(slot.name for slot in self._form.slots), *self._form.about])
        return self._next()

    def _fill(self, meaning: Meaning, functions: Container[str]) -> Line:
        slots = [*(slot.name for slot in self._form.slots), *self._form.about]
        if self._note(meaning, slots):
            return self._next()
        if self._stage is Stage.CONFIRMING:
            # A `no` outweighs a `yes` that came with it: nothing is done on a doubt.
            if "no" in meaning.meant:
                return self._form.unsure
            if "yes" in meaning.meant:
                return self._do(functions)
        if self._form.name in meaning.meant:
            return self._next()
        return self._then_go_on(self._domain.says.lost)

    def _note(self, meaning: Meaning, slots: Container[str]) -> bool:
        """Takes over what was heard of these slots; whether there was anything."""
        heard = {slot: value for slot, value in meaning.values.items() if slot in slots}
        self._values.update(heard)
        return bool(heard)

    def _next(self) -> str:
        """Refuses what cannot be, asks for what is missing, or asks for confirmation."""
        self._stage = Stage.FILLING
        for refusal in self._form.refuse:
            if all(self._values.get(slot) in refusal.when[slot] for slot in refusal.when):
                for slot in refusal.forget:
                    del self._values[slot]
                return f"{refusal.say} {self._next()}"
        for wanted in self._form.slots:
            if wanted.name not in self._values:
                return wanted.ask
        self._stage = Stage.CONFIRMING
        return self._filled_in(self._form.confirm)

    def _then_go_on(self, said: str) -> str:
        return f"{said} {self._next()}" if self._is_busy else said

    def _do(self, functions: Container[str]) -> Line:
        if self._form.name not in functions:
            return self._finish()
        self._stage = Stage.BEING_DONE
        return CallFunction(self._form.name, self._given(self._values))

    def _finish(self) -> str:
        done = self._filled_in(self._form.done)
        self._stage = Stage.IDLE
        return done

    def _filled_in(self, template: str) -> str:
        known = {name: slot.unknown for name, slot in self._domain.slots.items()}
        return template.format_map({**known, **self._values})


def _decoded(result: str) -> Any:
    """A function's result is any text, by custom JSON."""
    try:
        return msgspec.json.decode(result)
    except msgspec.DecodeError:
        return result


def _failure(result: str) -> str | None:
    """What went wrong, as a sentence, if that is what the result tells: an object with `error`."""
    told = _decoded(result)
    if not isinstance(told, dict) or "error" not in told:
        return None
    return _sentence(_read_out(told["error"]))


def _read_out(value: Any) -> str:
    """Any JSON in words."""
    match value:
        case dict():
            return ". ".join(f"{key}: {_read_out(each)}" for key, each in value.items())
        case list():
            return ", ".join(map(_read_out, value))
        case bool():
            return "yes" if value else "no"
        case None:
            return ""
    return str(value)


def _sentence(words: str) -> str:
    words = words.replace("_", " ").strip()
    if not words:
        return ""
    return words[0].upper() + words[1:] + ("" if words[-1] in ".!?" else ".")
