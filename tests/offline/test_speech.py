"""The voice for any text, what makes it as loud as people are, and the base install's clips."""

import concurrent.futures
import gc
import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio import g711
from sts_trio.audio.clips import Clip, read
from sts_trio.audio.frames import seconds
from sts_trio.audio.wav import resample
from sts_trio.offline import clips
from sts_trio.offline.protocol.script import CAR_SELLER
from sts_trio.offline.speech import espeak, make_clips, voice
from sts_trio.offline.speech import placeholder as babble
from sts_trio.offline.speech.espeak import ZERO_CROSSINGS, Speech
from sts_trio.offline.speech.loudness import even_out

CLIPS = Path(clips.__file__).parent


@pytest.fixture(scope="module")
def speech() -> Speech:
    return Speech()


def decibels(ulaw: bytes) -> float:
    return 20 * math.log10(g711.level(ulaw))


# --- any text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Which day would suit you?",
        "The Heron is a family car with five seats and room for the dog.",
        "So that is a test drive of the Otter, on Tuesday at ten, for Mary. Is that right?",
    ],
)
def test_speech_is_as_long_and_as_loud_as_a_persons(speech: Speech, text: str) -> None:
    said = speech.say(text)
    words_a_minute = len(text.split()) / seconds(len(said)) * 60
    assert 130 < words_a_minute < 280
    assert -24 < decibels(said) < -18
    assert max(abs(g711.SAMPLES[code]) for code in said) <= 32767 * 0.98


def test_speech_begins_and_ends_at_once(speech: Speech) -> None:
    """A synthesiser's silence before it would be a wait, the one after it a slow turn."""
    said = speech.say("Hello!")
    loud = [at for at in range(0, len(said), 80) if g711.level(said[at : at + 80]) > 0.01]
    assert seconds(loud[0]) <= 0.1
    assert seconds(len(said) - loud[-1]) <= 0.15


@pytest.mark.parametrize("text", ["", " ", "...", "\n", "\0"])
def test_nothing_to_say_is_not_said(speech: Speech, text: str) -> None:
    assert speech.say(text) == b""


@pytest.mark.parametrize(
    "text",
    ["Grüße", "你好", "<voice name='x'>markup</voice>", "one\0two", "\ud800 three", "[[h@loU]]"],
)
def test_any_text_is_spoken(speech: Speech, text: str) -> None:
    assert 0.2 < seconds(len(speech.say(text))) < 6


def test_an_endless_text_is_cut(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "MAX_LETTERS", 200)
    assert 5 < seconds(len(speech.say("word " * 3000))) < 20


def test_a_second_voice_does_not_disturb_the_first(speech: Speech) -> None:
    """The library knows one callback only; that of a voice that is gone would be a crash."""
    Speech().say("One.")
    gc.collect()
    assert len(speech.say("Two.")) > 1000


def test_two_voices_do_not_become_one(speech: Speech) -> None:
    """The library has one for all who use it."""
    alone = len(speech.say("Which day would suit you?"))
    slow = Speech("en-us+adam", 90)
    assert len(slow.say("Which day would suit you?")) > 1.3 * alone
    assert len(speech.say("Which day would suit you?")) == pytest.approx(alone, abs=200)


def test_a_voice_that_is_not_there_is_told() -> None:
    with pytest.raises(RuntimeError, match="no voice klingon-opera"):
        Speech("klingon-opera")


def test_voices_in_several_threads_take_turns(speech: Speech) -> None:
    texts = ["One.", "Two and three and four.", "Five, six."]
    alone = [len(speech.say(text)) for text in texts]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for lengths in pool.map(lambda _: [len(Speech().say(text)) for text in texts], range(4)):
            # Breath is noise, and so no two are the same to the byte.
            assert lengths == pytest.approx(alone, abs=200)


def test_only_the_bands_edge_is_paid_for_a_faster_conversion() -> None:
    def kept(frequency: float) -> float:
        wave = [10_000 * math.sin(2 * math.pi * frequency * n / 22050) for n in range(6000)]
        samples = resample(wave, 22050, ZERO_CROSSINGS)[200:-200]
        power = sum(sample * sample for sample in samples) / len(samples)
        return 10 * math.log10(2 * power / 10_000**2)

    assert kept(300) == pytest.approx(0, abs=0.1)
    assert kept(2000) == pytest.approx(0, abs=0.1)
    assert kept(2900) == pytest.approx(0, abs=0.5)
    assert kept(4500) < -45
    assert kept(6000) < -45


# --- loudness -------------------------------------------------------------------------------------


def tone(peak: float, count: int) -> list[float]:
    return [peak * math.sin(2 * math.pi * 500 * n / 8000) for n in range(count)]


@pytest.mark.parametrize("peak", [30, 1000, 30_000])
def test_any_loudness_becomes_that_of_a_phone(peak: float) -> None:
    assert decibels(even_out(tone(peak, 8000))) == pytest.approx(-20, abs=0.3)


def test_silence_around_is_cut_and_silence_within_is_kept_and_does_not_count() -> None:
    silence = [0.0] * 4000
    samples = [*silence, *tone(1000, 8000), *silence, *tone(1000, 8000), *silence]
    said = even_out(samples)
    assert len(said) == 400 + 8000 + 4000 + 8000 + 400
    assert decibels(said[400:8400]) == pytest.approx(-20, abs=0.3)
    assert set(said[:300]) == {0xFF}


@pytest.mark.parametrize("samples", [[], [0.0] * 1000, [3.0] * 1000])
def test_silence_stays_silence(samples: list[float]) -> None:
    assert even_out(samples) == b""


@given(st.lists(st.floats(-40_000, 40_000), max_size=500))
def test_whatever_comes_nothing_is_clipped_and_nothing_is_added(samples: list[float]) -> None:
    assert len(even_out(samples)) <= len(samples) + 80 + 400


def test_peaks_are_bent_and_not_clipped() -> None:
    """A click in quiet speech, 26 dB above it."""
    samples = tone(1000, 8000)
    samples[4000:4008] = [20_000.0] * 8
    said = even_out(samples)
    assert 24_000 < max(g711.SAMPLES[code] for code in said) <= 32_124


# --- clips ----------------------------------------------------------------------------------------

LISTED = read((CLIPS / "clips.toml").read_bytes())


def test_the_base_install_can_say_its_script_a_greeting_an_apology_and_goodbye() -> None:
    texts = {clip.text for clip in LISTED}
    assert {*CAR_SELLER.lines, voice.APOLOGY} <= texts
    assert {"Hello! How can I help you today?", "Thank you for calling. Goodbye!"} <= texts
    assert {f"{clip.file}.ulaw" for clip in LISTED} == {each.name for each in CLIPS.glob("*.ulaw")}


@pytest.mark.parametrize("clip", LISTED, ids=lambda clip: clip.file)
def test_a_clip_is_as_long_and_as_loud_as_a_persons_speech(clip: Clip) -> None:
    said = voice.say(f" {clip.text} ")
    assert said == (CLIPS / f"{clip.file}.ulaw").read_bytes()
    assert 110 < len(clip.text.split()) / seconds(len(said)) * 60 < 260
    assert -24 < decibels(said) < -18


def test_what_there_is_no_clip_of_is_babbled() -> None:
    assert voice.say("Nobody has recorded this.") == babble.say("Nobody has recorded this.")
    assert voice.say(LISTED[0].text, 200.0) == babble.say(LISTED[0].text, 200.0)


# --- the script that renders them -----------------------------------------------------------------


def test_a_voice_is_a_synthesiser_and_its_name() -> None:
    target = Path("x.wav")
    assert make_clips.command("slt", "Hi.", target)[:3] == ["flite", "-voice", "slt"]
    assert make_clips.command("espeak:en-gb", "Hi.", target)[:3] == ["espeak-ng", "-v", "en-gb"]


def test_clips_are_rendered_into_their_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a stand-in for flite that sings."""
    flite = tmp_path / "flite"
    flite.write_text(
        "#!/usr/bin/env python3\n"
        "import math, struct, sys, wave\n"
        "with wave.open(sys.argv[-1], 'wb') as file:\n"
        "    file.setparams((1, 2, 16000, 0, 'NONE', ''))\n"
        "    tone = [round(5000 * math.sin(n / 6)) for n in range(16000)]\n"
        "    file.writeframes(struct.pack('<16000h', *tone))\n"
    )
    flite.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    directory = tmp_path / "clips"
    directory.mkdir()
    listed = '[[clips]]\nfile = "hi"\nvoice = "slt"\ntext = "Hi."\n'
    (directory / "clips.toml").write_text(listed)
    make_clips.main([str(directory)])
    assert capsys.readouterr().out == f"{directory / 'hi.ulaw'}\n"
    said = (directory / "hi.ulaw").read_bytes()
    assert seconds(len(said)) == pytest.approx(1.0, abs=0.02)
    assert decibels(said) == pytest.approx(-20, abs=0.3)


def test_what_cannot_be_rendered_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"give one directory with a clips\.toml"):
        make_clips.main([])
    with pytest.raises(SystemExit, match=r"clips\.toml: not found"):
        make_clips.main([str(tmp_path)])
    (tmp_path / "clips.toml").write_text("[[clips]]\nfile = 1\n")
    with pytest.raises(SystemExit, match=r"Expected `str`, got `int`"):
        make_clips.main([str(tmp_path)])
    (tmp_path / "clips.toml").write_text('[[clips]]\nfile = "a"\nvoice = "slt"\ntext = "A."\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="flite: not found; the synthesisers come with"):
        make_clips.main([str(tmp_path)])

    def fail(*args: object, **kwargs: object) -> None:
        raise subprocess.CalledProcessError(1, "flite")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit, match="returned non-zero exit status 1"):
        make_clips.main([str(tmp_path)])
