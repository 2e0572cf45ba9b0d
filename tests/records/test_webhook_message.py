"""What a receiver is told of an ended call, and how it knows that it was us."""

import datetime
import time
from typing import Any

import msgspec
import pytest
from call_stories import FROM, NOON, Story, sid, whole
from standardwebhooks import Webhook, WebhookVerificationError

from sts_trio.records import webhook
from sts_trio.records.database import Database
from sts_trio.records.deliveries import Deliveries
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import Kind
from sts_trio.records.store import ANNOUNCED_WITHIN, Store
from sts_trio.records.webhook import MAX_BODY, RETRIES, Signer, retry_after, webhook_id

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b" * 32


def test_the_example_of_the_specification_is_signed_as_it_is_there() -> None:
    headers = Signer([SECRET]).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}', 1614265330.9
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_receiver_with_either_secret_takes_it_and_none_without() -> None:
    body = '{"said": "Grüße \\u0000"}'
    headers = Signer([OTHER, SECRET]).headers("msg_1", body, time.time())
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers) == {"said": "Grüße \0"}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "c" * 32).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace("G", "g"), headers)


def test_an_end_has_one_id_and_no_other_end_has_it() -> None:
    ids = {
        webhook_id(call_sid, epoch, ending)
        for call_sid in ("CA1", "CA2", "a.b\ud800")
        for epoch in (0, 10)
        for ending in ("stop", "lost")
    }
    assert len(ids) == 12
    assert all(each.startswith("msg_") and "." not in each for each in ids)
    assert webhook_id("CA1", 10, "stop") == webhook_id("CA1", 10, "stop")


def test_waits_grow_from_seconds_to_hours_and_end() -> None:
    waits = [retry_after(attempts, 0.0) for attempts in range(1, 8)]
    assert waits == [5, 300, 1800, 7200, 18000, 36000, None]
    for attempts, least in enumerate(RETRIES, 1):
        most = retry_after(attempts, 1.0)
        assert most is not None
        assert least < most <= 1.25 * least


# --- with the end of a call ---------------------------------------------------------------------


def told(database: Database) -> list[dict[str, Any]]:
    found = Deliveries(database).claim(NOON * 2, 100)
    assert all(each.kind == webhook.ENDED for each in found)
    return [msgspec.json.decode(each.body) for each in found]


def test_each_end_of_a_call_is_to_be_told(database: Database) -> None:
    ended: list[str] = []
    store = Store(database, tells_endings=True, on_ended=ended.extend)
    store.write(whole(1))
    assert ended == [sid(1)]
    [body] = told(database)
    assert body["type"] == webhook.ENDED
    assert datetime.datetime.fromisoformat(body["timestamp"]).timestamp() == NOON + 9
    data = body["data"]
    assert data["call"]["call_sid"] == sid(1)
    assert data["call"]["from"] == FROM
    assert (data["call"]["ending"], data["call"]["state"]) == ("stop", "ended")
    assert data["call"]["summary"]["caller_turns"] == 1
    assert [turn["said"] for turn in data["turns"]] == [
        "Hello!",
        "What cars do you have?",
        "Three of them.",
    ]
    assert "events" not in data


def test_an_end_that_is_written_again_is_told_once(database: Database) -> None:
    store = Store(database, tells_endings=True)
    for _ in range(3):
        store.write(whole(1))
    assert len(told(database)) == 1


def test_calls_that_were_never_heard_are_told_of_too(database: Database) -> None:
    store = Store(database, tells_endings=True)
    refused = Story(sid(1)).announce()
    refused.end("refused", "ours")
    store.write(refused.rows)
    store.write(Story(sid(2)).announce(process_id="p9").start(process_id="p9").rows)
    store.write(Story(sid(3)).announce().rows)
    store.mark_lost("p9")
    store.close_unanswered(NOON + ANNOUNCED_WITHIN + 1)
    endings = {
        body["data"]["call"]["call_sid"]: body["data"]["call"]["ending"] for body in told(database)
    }
    assert endings == {sid(1): "refused", sid(2): "lost", sid(3): "no_stream"}


def test_the_end_of_a_stream_that_others_go_on_without_is_not_told(database: Database) -> None:
    ended: list[str] = []
    store = Store(database, tells_endings=True, on_ended=ended.extend)
    store.write(Story(sid(1)).announce().start().rows)
    store.write(Story(sid(1), epoch=11).start(how="moved").rows)
    store.write(Story(sid(1)).end().rows)
    assert ended == []
    assert told(database) == []


def test_without_a_receiver_nothing_is_to_be_told(database: Database) -> None:
    Store(database).write(whole(1))
    assert told(database) == []


def test_what_is_not_kept_is_not_told(database: Database) -> None:
    redaction = Redaction("0123456789abcdef0123456789abcdef")
    store = Store(database, keeps_words=False, redaction=redaction, tells_endings=True)
    story = Story(sid(1)).announce().start().talk()
    story.tell(Kind.FUNCTION_ASKED, id="1", name="pay", arguments='{"card": "4111"}', shield=False)
    story.tell(Kind.FUNCTION_ANSWERED, id="1", name="pay", outcome="done", seconds=1, content="ok!")
    store.write([redaction.row(row) for row in story.end().rows])
    [body] = told(database)
    text = msgspec.json.encode(body).decode()
    for word in ("What cars", "Three of", "4111", "ok!", FROM):
        assert word not in text


def test_a_very_long_call_is_told_without_its_words(database: Database) -> None:
    store = Store(database, tells_endings=True)
    story = Story(sid(1)).announce().start()
    for _ in range(40):
        story.tell(Kind.USER, text="word " * 2000)
    store.write(story.end().rows)
    [body] = told(database)
    assert body["data"]["left_out"] == "it was too long"
    assert body["data"]["turns"] == []
    assert len(msgspec.json.encode(body)) < MAX_BODY
