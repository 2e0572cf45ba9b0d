/* Twilio: one Media Stream per call, its frames paced to the clock, marks echoed at once.
 *
 * Source: Twilio, "Media Streams: WebSocket messages". Key order and strings for numbers are as in
 * its examples. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AUDIO = 1 << 20 };
#define PACE (20 * MILLISECOND)
/* A bridge that does not close its end for this long after our goodbye is hung up on. */
#define PATIENCE (3 * SECOND)

static struct call **calls; /* by serial number; calls are never forgotten */
static uint32_t count, room;

struct call *find_call(uint32_t serial)
{
    return serial < count ? calls[serial] : NULL;
}

uint32_t calls_placed(void)
{
    return count;
}

bool is_through(const struct call *call)
{
    return call->link && call->session && !call->hung_up;
}

/* --- what Twilio says ------------------------------------------------------------------------ */

static void say_media(struct call *call)
{
    struct block block;
    char payload[4 * FRAME / 3 + 4], text[640];
    uint32_t chunk = call->frames + 1;
    fill_block(&block, &meters.up, call->serial, call->frames++);
    EVP_EncodeBlock((uint8_t *)payload, (const uint8_t *)&block, FRAME);
    int size = snprintf(text, sizeof text,
                        "{\"event\":\"media\",\"sequenceNumber\":\"%lu\",\"media\":{"
                        "\"track\":\"inbound\",\"chunk\":\"%u\",\"timestamp\":\"%u\","
                        "\"payload\":\"%s\"},\"streamSid\":\"%s\"}",
                        ++call->messages, chunk, 20 * chunk, payload, call->stream_sid);
    (plan.rough ? say_roughly : say)(call->link, TEXT, text, (size_t)size);
}

static void ring_beat(void *owner, uint64_t at)
{
    struct call *call = owner;
    (void)at;
    if (call->hung_up) {
        drop(call->link);
        return;
    }
    set_alarm(&call->beat, call->beat.due + PACE);
    say_media(call);
}

static void say_start(struct call *call)
{
    char text[640];
    say_text(call->link, "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}");
    snprintf(text, sizeof text,
             "{\"event\":\"start\",\"sequenceNumber\":\"%lu\",\"start\":{"
             "\"accountSid\":\"AC00000000000000000000000000000001\",\"streamSid\":\"%s\","
             "\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"mediaFormat\":{"
             "\"encoding\":\"audio/x-mulaw\",\"sampleRate\":8000,\"channels\":1},"
             "\"customParameters\":{}},\"streamSid\":\"%s\"}",
             ++call->messages, call->stream_sid, call->call_sid, call->stream_sid);
    say_text(call->link, text);
}

void hang_up(struct call *call)
{
    char text[320];
    if (call->hung_up)
        return;
    call->hung_up = now();
    if (call->link) {
        snprintf(text, sizeof text,
                 "{\"event\":\"stop\",\"sequenceNumber\":\"%lu\",\"streamSid\":\"%s\","
                 "\"stop\":{\"accountSid\":\"AC00000000000000000000000000000001\","
                 "\"callSid\":\"%s\"}}",
                 ++call->messages, call->stream_sid, call->call_sid);
        say_text(call->link, text);
        say_goodbye(call->link);
        set_alarm(&call->beat, call->hung_up + PATIENCE);
    }
    if (call->session)
        caller_left(call->session);
}

/* --- what Twilio hears ----------------------------------------------------------------------- */

/* The string that a key has; good for messages whose strings have nothing to be escaped. */
static char *string_of(const char *key, uint8_t *text, size_t size, size_t *length)
{
    char *end = (char *)text + size;
    char *at = memmem(text, size, key, strlen(key));
    if (!at)
        return NULL;
    for (at += strlen(key); at < end && (*at == ' ' || *at == ':'); at++)
        continue;
    char *close = at < end && *at == '"' ? memchr(at + 1, '"', (size_t)(end - at - 1)) : NULL;
    if (!close)
        return NULL;
    *length = (size_t)(close - at - 1);
    return at + 1;
}

static bool is(const char *string, size_t length, const char *expected)
{
    return string && length == strlen(expected) && !memcmp(string, expected, length);
}

static void hear_media(struct call *call, const char *payload, size_t length, uint64_t at)
{
    static uint8_t audio[MOST_AUDIO];
    int size = length <= MOST_AUDIO ? EVP_DecodeBlock(audio, (const uint8_t *)payload, (int)length)
                                    : -1;
    if (size < 0) {
        meters.strange++;
        return;
    }
    /* OpenSSL counts the zeros that padding stands for. */
    for (size_t i = length; i > 0 && payload[i - 1] == '='; i--)
        size--;
    listen_to(&call->ear, audio, (size_t)size, at);
}

static void echo_mark(struct call *call, const char *name, size_t length)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"event\":\"mark\",\"sequenceNumber\":\"%lu\",\"streamSid\":\"%s\","
             "\"mark\":{\"name\":\"%.*s\"}}",
             ++call->messages, call->stream_sid, (int)(length < 256 ? length : 256), name);
    meters.marks++;
    say_text(call->link, text);
}

static void caller_heard(void *owner, enum opcode opcode, uint8_t *data, size_t size, uint64_t at)
{
    struct call *call = owner;
    size_t length = 0, sid_length = 0, string_length = 0;
    char *event = string_of("\"event\"", data, size, &length);
    char *sid = string_of("\"streamSid\"", data, size, &sid_length);
    char *string;
    if (opcode != TEXT || !is(sid, sid_length, call->stream_sid))
        meters.strange++;
    else if (is(event, length, "clear"))
        clear_heard(call->session, at);
    else if (is(event, length, "media") &&
             (string = string_of("\"payload\"", data, size, &string_length)))
        hear_media(call, string, string_length, at);
    else if (is(event, length, "mark") &&
             (string = string_of("\"name\"", data, size, &string_length)))
        echo_mark(call, string, string_length);
    else
        meters.strange++;
}

/* --- from dialling to the end ---------------------------------------------------------------- */

static void caller_connected(void *owner)
{
    struct call *call = owner;
    uint64_t noise[2] = { scramble(call->serial), scramble(~call->serial) };
    char key[25], text[512];
    EVP_EncodeBlock((uint8_t *)key, (const uint8_t *)noise, sizeof noise);
    snprintf(text, sizeof text,
             "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: Twilio.TmeWs/1.0\r\n"
             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: %s\r\n\r\n",
             plan.path, plan.host, plan.port, key);
    say_http(call->link, text);
}

static bool caller_greeted(void *owner, char *head)
{
    struct call *call = owner;
    if (strncmp(head, "HTTP/1.1 101", 12)) {
        if (!meters.refused++)
            fprintf(stderr, "loadgen: the bridge refuses: %.*s\n", (int)strcspn(head, "\r"), head);
        return false;
    }
    uint64_t at = now();
    add_sample(&meters.setup, at - call->dialled);
    say_start(call);
    /* Callers do not speak in step: each has its own phase. */
    if (call->link)
        set_alarm(&call->beat, at + chance(PACE));
    return true;
}

static void caller_lost(void *owner)
{
    struct call *call = owner;
    call->link = NULL;
    cancel_alarm(&call->beat);
    meters.cut_off += call->messages && !call->hung_up;
    hang_up(call);
}

struct call *place_call(void)
{
    static const struct side twilio = { caller_connected, caller_greeted, caller_heard,
                                        caller_lost };
    struct call *call = calloc(1, sizeof *call);
    if (count == room) {
        room = room ? 2 * room : 1024;
        calls = realloc(calls, room * sizeof *calls);
    }
    if (!call || !calls)
        die("out of memory", "calls");
    call->serial = count;
    calls[count++] = call;
    call->ear.meter = &meters.down;
    call->ear.serial = call->serial;
    call->beat.ring = ring_beat;
    call->beat.owner = call;
    /* Every call has its own names: a bridge may refuse a second call of the same. */
    snprintf(call->call_sid, sizeof call->call_sid, "CA%016lx%016x", scramble(call->serial),
             call->serial);
    snprintf(call->stream_sid, sizeof call->stream_sid, "MZ%016lx%016x", scramble(~call->serial),
             call->serial);
    call->dialled = now();
    call->link = dial(plan.host, plan.port, &twilio, call);
    return call;
}
