/* Twilio: one Media Stream per call, its frames paced to the clock, marks echoed at once.
 *
 * Source: Twilio, "Media Streams: WebSocket messages". Key order and strings for numbers are as in
 * its examples. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AUDIO = 1 << 20 };
#define PACE (20 * MILLISECOND)
/* A bridge that does not close its end for this long after our goodbye is hung up on. */
#define PATIENCE (3 * SECOND)
/* A caller whose agent has ended its session is let go within this, or was kept. */
#define KEPT (5 * SECOND)
/* A call that has stood for so long has been led to an agent, or never will be. */
#define REACHED_WITHIN (2 * SECOND)
/* Of a call that is heard at all so much arrives, whichever way. */
#define HEARD 0.95
enum { MOST_HEAD = 8192 };

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

static bool was_heard(const struct call *call)
{
    bool stood = call->dialled < meters.from && (!call->hung_up || call->hung_up >= meters.to);
    for (int way = UP; stood && way <= DOWN; way++)
        if (call->arrived[way] < HEARD * call->sent[way])
            return false;
    return true;
}

uint32_t calls_failed(void)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct call *call = calls[i];
        uint64_t end = call->hung_up ? call->hung_up : now();
        bool was_left_out = !call->was_reached && end - call->dialled >= REACHED_WITHIN;
        failed += call->is_refused || call->is_cut_off || was_left_out || !was_heard(call);
    }
    return failed;
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
    if (call->hung_up) {
        drop(call->link);
        return;
    }
    if (call->left_by_agent && at - call->left_by_agent > KEPT) {
        meters.kept++;
        hang_up(call);
        return;
    }
    set_alarm(&call->beat, call->beat.due + PACE);
    say_media(call);
}

static void say_start(struct call *call)
{
    char text[MOST_HEAD];
    say_text(call->link, "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}");
    snprintf(text, sizeof text,
             "{\"event\":\"start\",\"sequenceNumber\":\"%lu\",\"start\":{"
             "\"accountSid\":\"AC00000000000000000000000000000001\",\"streamSid\":\"%s\","
             "\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"mediaFormat\":{"
             "\"encoding\":\"audio/x-mulaw\",\"sampleRate\":8000,\"channels\":1},"
             "\"customParameters\":%s},\"streamSid\":\"%s\"}",
             ++call->messages, call->stream_sid, call->place.call_sid, call->place.parameters,
             call->stream_sid);
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
                 ++call->messages, call->stream_sid, call->place.call_sid);
        say_text(call->link, text);
        say_goodbye(call->link);
        set_alarm(&call->beat, call->hung_up + PATIENCE);
    }
    if (call->session)
        caller_left(call->session);
}

static enum ending an_ending(void)
{
    double all = plan.endings[BY_STOP] + plan.endings[BY_CUT] + plan.endings[BY_AGENT];
    if (happens(plan.endings[BY_CUT] / all))
        return BY_CUT;
    all -= plan.endings[BY_CUT];
    return all > 0 && happens(plan.endings[BY_AGENT] / all) ? BY_AGENT : BY_STOP;
}

void end_call(struct call *call)
{
    enum ending ending = an_ending();
    if (call->hung_up || call->is_ending)
        return;
    if (ending == BY_AGENT && is_through(call)) {
        call->is_ending = true;
        leave_caller(call->session);
    } else if (ending == BY_CUT && call->link) {
        call->hung_up = now();
        cut(call->link);
        if (call->session)
            caller_left(call->session);
    } else {
        hang_up(call);
    }
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

static void hear_clear(struct call *call, uint64_t at)
{
    call->ear.filled = 0; /* what is dropped may end in the midst of a block */
    clear_heard(call->session, at);
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
        hear_clear(call, at);
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
    char key[25], text[MOST_HEAD];
    EVP_EncodeBlock((uint8_t *)key, (const uint8_t *)noise, sizeof noise);
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Twilio.TmeWs/1.0\r\n"
                        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
                        call->place.path, call->place.host, key);
    for (const char *at = call->place.headers; *at && size < MOST_HEAD;) {
        int length = (int)strcspn(at, "\t");
        size += snprintf(text + size, sizeof text - (size_t)size, "%.*s\r\n", length, at);
        at += length + (at[length] == '\t');
    }
    if (size >= MOST_HEAD - 2)
        die("a place's path and headers are too long", call->place.path);
    strcpy(text + size, "\r\n");
    say_http(call->link, text);
}

static void caller_secured(void *owner, SSL *ssl)
{
    struct call *call = owner;
    char name[256];
    const char *host = call->place.host;
    bool is_ipv6 = *host == '['; /* in brackets, as it has colons of its own */
    host += is_ipv6;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(host, is_ipv6 ? "]" : ":"), host);
    /* An address has no name to ask for. */
    if (!is_ipv6 && name[strspn(name, "0123456789.")])
        SSL_set_tlsext_host_name(ssl, name);
    SSL_set1_host(ssl, name);
}

static void be_refused(struct call *call, const char *why)
{
    if (call->is_refused)
        return;
    call->is_refused = true;
    if (!meters.refused++)
        fprintf(stderr, "loadgen: the bridge refuses: %.*s\n", (int)strcspn(why, "\r\n"), why);
}

static bool caller_greeted(void *owner, char *head)
{
    struct call *call = owner;
    if (strncmp(head, "HTTP/1.1 101", 12)) {
        be_refused(call, head);
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
    if (call->left_by_agent) {
        if (!call->hung_up)
            add_sample(&meters.released, now() - call->left_by_agent);
    } else if (!call->hung_up && call->messages) {
        meters.cut_off++;
        call->is_cut_off = true;
    } else if (!call->hung_up) { /* before the first message this was no call yet */
        be_refused(call, "it let go of the connection");
    }
    hang_up(call);
}

/* The fields of a line, each its own string from now on; the last has what is left. */
static bool read_place(struct place *place, const char *line)
{
    const char **fields[] = { &place->call_sid, &place->host, &place->path, &place->parameters,
                              &place->headers };
    char *rest = strdup(line);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!rest)
            return false;
        *fields[i] = rest;
        if (i + 1 < sizeof fields / sizeof *fields && (rest = strchr(rest, '\t')))
            *rest++ = '\0';
    }
    return true;
}

static void take_place(struct call *call, const char *line)
{
    static char host[128];
    snprintf(host, sizeof host, "%s:%d", plan.host, plan.port);
    call->place = (struct place){ call->own_sid, host, plan.path, "{}", "" };
    if (line && strcmp(line, "!") && !read_place(&call->place, line))
        die("expected five fields, or more, with tabs between, or !", line);
}

struct call *place_call(const char *line)
{
    static const struct side twilio = { caller_secured, caller_connected, caller_greeted,
                                        caller_heard, caller_lost };
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
    snprintf(call->own_sid, sizeof call->own_sid, "CA%016lx%016x", scramble(call->serial),
             call->serial);
    snprintf(call->stream_sid, sizeof call->stream_sid, "MZ%016lx%016x", scramble(~call->serial),
             call->serial);
    take_place(call, line);
    call->dialled = now();
    if (line && !strcmp(line, "!")) {
        call->is_refused = true;
        call->hung_up = call->dialled;
        meters.refused++;
    } else {
        call->link = dial(plan.host, plan.port, &twilio, call);
    }
    return call;
}
