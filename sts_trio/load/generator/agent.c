/* Deepgram: a Voice Agent session per connection. The agent takes its turns by the clock, whatever
 * the caller says: every turn cuts the caller's playout, and speaks for two seconds.
 *
 * Whose session it is, the first audio tells: nothing else does. Until then the agent is silent. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_CHUNK = 6, MOST_CHUNK = 20 }; /* frames: 960 to 3200 bytes */
#define CHUNK_PACE (10 * MILLISECOND)
/* Bridges wait for a greeting, and take an agent without one for dead. */
#define FIRST_WORD (3 * SECOND)
/* A client that sends no more audio is given up, as by the real one. */
#define GIVE_UP (10 * SECOND)

/* The steps of a turn, and when they are due, in shares of the turn. */
enum step { BARGE_IN, USER_TEXT, AGENT_TEXT, AUDIO, AUDIO_DONE };
static const double share_of_turn[] = { 0, 0.2, 0.225, 0.25 };

struct session {
    struct link *link; /* NULL once it is over */
    struct call *call; /* NULL until its audio came */
    struct ear ear;
    struct alarm alarm;
    enum step step;
    uint64_t turn_began;
    uint64_t barged_in; /* 0 once `clear` has answered it */
    struct block block; /* the one that is being said */
    size_t said;        /* bytes of it, FRAME when it is over */
    size_t unsaid; /* bytes of this utterance */
    bool has_settings, is_leaving;
    struct session *next, *previous;
};

static struct session open_sessions = { .next = &open_sessions, .previous = &open_sessions };

/* --- its turns ------------------------------------------------------------------------------- */

static void barge_in(struct session *session)
{
    session->barged_in = now();
    meters.clears_asked += in_window(session->barged_in);
    say_text(session->link, "{\"type\":\"UserStartedSpeaking\"}");
}

void clear_heard(struct session *session, uint64_t at)
{
    if (!session || !session->barged_in) {
        meters.clears_unasked++;
        return;
    }
    if (in_window(session->barged_in)) {
        meters.clears_answered++;
        add_sample(&meters.clear, at - session->barged_in);
    }
    session->barged_in = 0;
}

/* The next chunk: whole frames, as most of Deepgram's are; rough ones end anywhere. */
static void say_chunk(struct session *session)
{
    uint8_t chunk[MOST_CHUNK * FRAME];
    size_t size = (LEAST_CHUNK + chance(MOST_CHUNK - LEAST_CHUNK + 1)) * FRAME;
    if (plan.rough)
        size -= chance(FRAME);
    if (size > session->unsaid)
        size = session->unsaid;
    for (size_t done = 0, piece; done < size; done += piece) {
        if (session->said == FRAME) {
            fill_block(&session->block, &meters.down, session->call->serial, session->call->blocks++);
            session->said = 0;
        }
        piece = FRAME - session->said < size - done ? FRAME - session->said : size - done;
        memcpy(chunk + done, (uint8_t *)&session->block + session->said, piece);
        session->said += piece;
    }
    session->unsaid -= size;
    if (plan.rough && chance(2)) {
        meters.pings_sent++;
        say(session->link, PING, "still there", 11);
    }
    say(session->link, BINARY, chunk, size);
}

static void give_up(struct session *session)
{
    say_text(session->link, "{\"type\":\"Error\",\"code\":\"CLIENT_MESSAGE_TIMEOUT\","
                            "\"description\":\"No audio for too long.\"}");
    say_goodbye(session->link);
}

static void take_step(void *owner, uint64_t at)
{
    struct session *session = owner;
    (void)at;
    if (session->call->hung_up) {
        give_up(session);
        return;
    }
    uint64_t due = session->alarm.due + CHUNK_PACE;
    switch (session->step) {
    case BARGE_IN:
        session->turn_began = session->alarm.due;
        barge_in(session);
        break;
    case USER_TEXT:
        say_text(session->link, "{\"type\":\"ConversationText\",\"role\":\"user\",\"content\":"
                                "\"When does the last train to the coast leave tonight?\"}");
        break;
    case AGENT_TEXT:
        say_text(session->link, "{\"type\":\"ConversationText\",\"role\":\"assistant\",\"content\":"
                                "\"The last one leaves at ten past eleven, from platform four.\"}");
        session->unsaid = (size_t)(plan.speech * 50) * FRAME;
        break;
    case AUDIO:
        say_chunk(session);
        break;
    case AUDIO_DONE:
        say_text(session->link, "{\"type\":\"AgentAudioDone\"}");
        if (session->is_leaving) {
            session->call->left_by_agent = now();
            say_goodbye(session->link);
            return;
        }
        break;
    }
    if (session->step == AUDIO_DONE) {
        double length = plan.turn;
        if (happens(plan.barge_in)) /* while the half of it is not heard yet */
            length = share_of_turn[AUDIO] * plan.turn + plan.speech / 2;
        uint64_t next_turn = session->turn_began + (uint64_t)(length * SECOND);
        session->step = BARGE_IN;
        due = next_turn > due ? next_turn : due;
    } else if (session->step != AUDIO || !session->unsaid) {
        session->step++;
        if (session->step != AUDIO_DONE)
            due = session->turn_began +
                  (uint64_t)(share_of_turn[session->step] * plan.turn * SECOND);
    }
    if (session->link)
        set_alarm(&session->alarm, due);
}

/* --- what it hears --------------------------------------------------------------------------- */

void caller_left(struct session *session)
{
    set_alarm(&session->alarm, session->call->hung_up + GIVE_UP);
}

void leave_caller(struct session *session)
{
    session->is_leaving = true;
}

static void recognise_caller(struct session *session, uint64_t at)
{
    struct call *call = find_call((uint32_t)session->ear.serial);
    if (!call) {
        meters.strange++;
        return;
    }
    session->call = call;
    call->session = session;
    call->was_reached = true;
    add_sample(&meters.reach, at - call->dialled);
    uint64_t turn = (uint64_t)(plan.turn * SECOND);
    set_alarm(&session->alarm, at + chance(turn < FIRST_WORD ? turn : FIRST_WORD));
    if (call->hung_up)
        caller_left(session);
}

static void agent_heard(void *owner, enum opcode opcode, uint8_t *data, size_t size, uint64_t at)
{
    struct session *session = owner;
    if (opcode == BINARY) {
        meters.strange += !session->has_settings;
        listen_to(&session->ear, data, size, at);
        if (!session->call && session->ear.serial != NO_CALL)
            recognise_caller(session, at);
    } else if (!session->has_settings && memmem(data, size, "\"Settings\"", 10)) {
        session->has_settings = true;
        say_text(session->link, "{\"type\":\"SettingsApplied\"}");
    } else if (!memmem(data, size, "\"KeepAlive\"", 11)) {
        meters.strange++;
    }
}

/* --- from the handshake to the end ----------------------------------------------------------- */

static bool agent_greeted(void *owner, char *head)
{
    struct session *session = owner;
    uint8_t digest[SHA_DIGEST_LENGTH];
    char text[256], accept[32];
    const char *key = strcasestr(head, "\r\nsec-websocket-key:");
    if (!key)
        return false;
    key += strlen("\r\nsec-websocket-key:");
    key += strspn(key, " ");
    int size = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                        (int)strcspn(key, " \r"), key);
    if (size < 0 || (size_t)size >= sizeof text)
        return false;
    SHA1((const uint8_t *)text, (size_t)size, digest);
    EVP_EncodeBlock((uint8_t *)accept, digest, sizeof digest);
    snprintf(text, sizeof text,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    say_http(session->link, text);
    say_text(session->link, "{\"type\":\"Welcome\","
                            "\"request_id\":\"00000000-0000-4000-8000-000000000000\"}");
    return true;
}

static void agent_lost(void *owner)
{
    struct session *session = owner;
    struct call *call = session->call;
    session->link = NULL;
    cancel_alarm(&session->alarm);
    session->previous->next = session->next;
    session->next->previous = session->previous;
    if (!call)
        return;
    if (call->session == session)
        call->session = NULL;
    if (call->hung_up) {
        add_sample(&meters.gone, now() - call->hung_up);
    } else if (!call->left_by_agent) {
        call->is_cut_off = true;
        meters.cut_off++;
    }
}

static void *agent_accepted(struct link *link)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        die("out of memory", "sessions");
    session->link = link;
    session->ear.meter = &meters.up;
    session->ear.serial = NO_CALL;
    session->said = FRAME;
    session->alarm.ring = take_step;
    session->alarm.owner = session;
    session->next = open_sessions.next;
    session->previous = &open_sessions;
    session->next->previous = open_sessions.next = session;
    return session;
}

void start_agent(int port)
{
    static const struct side deepgram = { NULL, NULL, agent_greeted, agent_heard, agent_lost };
    answer_at(port, agent_accepted, &deepgram);
}

int sessions_left_open(uint64_t grace)
{
    int left = 0;
    uint64_t at = now();
    for (struct session *s = open_sessions.next; s != &open_sessions; s = s->next)
        left += s->call && s->call->hung_up && at - s->call->hung_up >= grace;
    return left;
}
