/* The limit: a relay in C on one epoll, with one read and one write for each message and nothing
 * else. It is no product: nothing is bounded, checked, logged or kept, a fragment is misread, and
 * what a socket does not take is lost. What it shows is what the work itself costs, so how far from
 * that a bridge is.
 *
 *     PORT=5000 AGENT_PORT=5001 FORWARD_MS=60 relay */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 1 << 16, MOST_GATHERED = 1 << 15, EVENTS = 256, SID = 64 };
enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static const char SETTINGS[] =
    "{\"type\":\"Settings\",\"audio\":{\"input\":{\"encoding\":\"mulaw\",\"sample_rate\":8000},"
    "\"output\":{\"encoding\":\"mulaw\",\"sample_rate\":8000,\"container\":\"none\"}},\"agent\":{}}";
static const char DIAL[] = "GET /v1/agent/converse HTTP/1.1\r\nHost: agent\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: 26ypYvsqzHJLGvnF2OKhXQ==\r\n\r\n";
static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, section 1.3 */

struct leg {
    int fd; /* -1 once it is closed */
    bool is_agent, is_open;
    struct leg *other;
    size_t size; /* of what came and is not a whole frame yet */
    uint8_t data[MOST];
    /* A caller's: */
    char stream_sid[SID];
    size_t gathered; /* bytes of audio that are to be forwarded */
    uint8_t audio[MOST_GATHERED];
};

static int epoll, agent_port;
static size_t enough;
static int8_t digits[256]; /* of base64 */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int port_of(const char *name)
{
    const char *value = getenv(name);
    if (!value || !atoi(value)) {
        fprintf(stderr, "relay: expected a port in %s\n", name);
        exit(2);
    }
    return atoi(value);
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static struct leg *add_leg(int fd, bool is_agent)
{
    struct leg *leg = calloc(1, sizeof *leg);
    int on = 1;
    if (!leg)
        die("relay");
    leg->fd = fd;
    leg->is_agent = is_agent;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = leg };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
    return leg;
}

/* Both legs of a call stay in memory: an event of this round may name either. */
static void hang_up(struct leg *leg)
{
    for (int each = 0; each < 2 && leg; each++, leg = leg->other) {
        if (leg->fd >= 0)
            close(leg->fd);
        leg->fd = -1;
    }
}

static void transmit(struct leg *leg, const void *data, size_t size)
{
    if (leg && leg->fd >= 0)
        send(leg->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A frame of up to 65535 bytes; to the agent we are the client, whose frames are masked. */
static void say(struct leg *leg, enum opcode opcode, const void *payload, size_t size)
{
    static uint8_t frame[MOST + 16];
    if (!leg || size > 0xffff)
        return;
    size_t at = 0;
    uint8_t mask_bit = leg->is_agent ? 0x80 : 0;
    frame[at++] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        frame[at++] = (uint8_t)(mask_bit | size);
    } else {
        frame[at++] = mask_bit | 126;
        frame[at++] = (uint8_t)(size >> 8);
        frame[at++] = (uint8_t)size;
    }
    if (leg->is_agent) {
        uint32_t mask = (uint32_t)random();
        memcpy(frame + at, &mask, sizeof mask);
        at += sizeof mask;
        const uint8_t *key = frame + at - sizeof mask, *plain = payload;
        for (size_t index = 0; index < size; index++)
            frame[at + index] = plain[index] ^ key[index & 3];
    } else {
        memcpy(frame + at, payload, size);
    }
    transmit(leg, frame, at + size);
}

/* --- what is said ---------------------------------------------------------------------------- */

static const char *value_of(const char *name, const uint8_t *text, size_t size)
{
    const uint8_t *found = memmem(text, size, name, strlen(name));
    return found ? (const char *)found + strlen(name) : NULL;
}

static void hear_caller(struct leg *caller, const uint8_t *text, size_t size)
{
    const char *end = (const char *)text + size;
    const char *at = value_of("\"payload\":\"", text, size);
    if (!at) {
        if (value_of("\"event\":\"start\"", text, size) &&
            (at = value_of("\"streamSid\":\"", text, size)))
            for (size_t n = 0; n < SID - 1 && at < end && *at != '"'; n++)
                caller->stream_sid[n] = *at++;
        return;
    }
    uint32_t bits = 0;
    for (int count = 0; at < end && *at != '"' && *at != '='; at++) {
        bits = bits << 6 | (uint32_t)digits[(uint8_t)*at];
        if ((count += 6) >= 8 && caller->gathered < MOST_GATHERED)
            caller->audio[caller->gathered++] = (uint8_t)(bits >> (count -= 8));
    }
    if (caller->gathered >= enough && caller->other && caller->other->is_open) {
        say(caller->other, BINARY, caller->audio, caller->gathered);
        caller->gathered = 0;
    }
}

static void hear_agent(struct leg *agent, enum opcode opcode, const uint8_t *data, size_t size)
{
    static char text[2 * MOST];
    const char *sid = agent->other->stream_sid;
    if (opcode == BINARY) {
        int at = sprintf(text, "{\"event\":\"media\",\"streamSid\":\"%s\",\"media\":{\"payload\":\"", sid);
        at += EVP_EncodeBlock((uint8_t *)text + at, data, (int)size);
        memcpy(text + at, "\"}}", 3);
        say(agent->other, TEXT, text, (size_t)at + 3);
    } else if (value_of("\"UserStartedSpeaking\"", data, size)) {
        int length = sprintf(text, "{\"event\":\"clear\",\"streamSid\":\"%s\"}", sid);
        say(agent->other, TEXT, text, (size_t)length);
    }
}

static void hear(struct leg *leg, enum opcode opcode, const uint8_t *data, size_t size)
{
    if (opcode == PING) {
        say(leg, PONG, data, size);
    } else if (opcode == CLOSE) {
        if (!leg->is_agent && leg->gathered)
            say(leg->other, BINARY, leg->audio, leg->gathered);
        say(leg->other, CLOSE, "\x03\xe8", 2);
        say(leg, CLOSE, data, size < 2 ? 0 : 2);
        hang_up(leg);
    } else if (leg->is_agent) {
        hear_agent(leg, opcode, data, size);
    } else {
        hear_caller(leg, data, size);
    }
}

/* --- sockets --------------------------------------------------------------------------------- */

static void answer(struct leg *caller)
{
    char joined[24 + sizeof GUID], reply[256];
    unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
    const char *key = strcasestr((char *)caller->data, "sec-websocket-key:");
    if (!key)
        return hang_up(caller);
    key += strlen("sec-websocket-key:");
    key += strspn(key, " ");
    memcpy(joined, key, 24);
    memcpy(joined + 24, GUID, sizeof GUID);
    SHA1((unsigned char *)joined, strlen(joined), digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    transmit(caller, reply,
             (size_t)sprintf(reply,
                             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                             accept));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(agent_port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("the agent");
    struct leg *agent = add_leg(fd, true);
    caller->other = agent;
    agent->other = caller;
    transmit(agent, DIAL, sizeof DIAL - 1);
}

/* Returns how many bytes the head of HTTP takes, 0 while it is not whole. */
static size_t open_leg(struct leg *leg)
{
    uint8_t *end = memmem(leg->data, leg->size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    *end = 0;
    leg->is_open = true;
    if (leg->is_agent)
        say(leg, TEXT, SETTINGS, sizeof SETTINGS - 1);
    else
        answer(leg);
    return (size_t)(end - leg->data) + 4;
}

static void take_frames(struct leg *leg)
{
    size_t at = leg->is_open ? 0 : open_leg(leg);
    while (leg->fd >= 0 && leg->is_open && leg->size - at >= 2) {
        uint8_t *frame = leg->data + at;
        size_t size = frame[1] & 0x7f, head = 2;
        bool is_masked = frame[1] & 0x80;
        if (size == 126) {
            if (leg->size - at < 4)
                break;
            size = (size_t)frame[2] << 8 | frame[3];
            head = 4;
        }
        uint8_t *mask = frame + head;
        head += is_masked ? 4 : 0;
        if (leg->size - at < head + size)
            break;
        for (size_t index = 0; is_masked && index < size; index++)
            frame[head + index] ^= mask[index & 3];
        at += head + size;
        hear(leg, frame[0] & 15, frame + head, size);
    }
    memmove(leg->data, leg->data + at, leg->size - at);
    leg->size -= at;
}

static void read_leg(struct leg *leg)
{
    if (leg->fd < 0)
        return;
    ssize_t count = recv(leg->fd, leg->data + leg->size, MOST - leg->size, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0)
        return hang_up(leg);
    leg->size += (size_t)count;
    take_frames(leg);
}

int main(void)
{
    const char *base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int each = 0; each < 64; each++)
        digits[(uint8_t)base64[each]] = (int8_t)each;
    const char *forward = getenv("FORWARD_MS");
    enough = 8 * (size_t)(forward ? atoi(forward) : 60); /* µ-law has 8 bytes a millisecond */
    struct sockaddr_in address = loopback(port_of("PORT"));
    agent_port = port_of("AGENT_PORT");
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0)
        die("the port");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event new_caller = { .events = EPOLLIN, .data.ptr = NULL };
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &new_caller) < 0)
        die("epoll");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int each = 0; each < count; each++) {
            if (events[each].data.ptr) {
                read_leg(events[each].data.ptr);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                add_leg(fd, false);
        }
    }
}
