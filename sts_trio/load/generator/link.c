/* A websocket on a non-blocking socket, as client or as server, with TLS where asked for.
 *
 * Messages to us come in one frame each, as all the bridges send them; fragments are counted as
 * strange. Pings are answered here, and closing is done here. A link that is dropped stays in
 * memory until its round of epoll is over, so that nobody is left with a dangling pointer. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_AT_ONCE = 65536, EVENTS_AT_ONCE = 256 };
enum { MOST_PER_HEAD = 16384, MOST_PER_MESSAGE = 1 << 20 };
/* A torn frame's second half follows after this long: surely in a read of its own. */
#define TEAR (2 * MILLISECOND)

enum state { LISTENING, INPUT, CONNECTING, SHAKING_HANDS, OPEN, GONE };

struct buffer {
    uint8_t *bytes;
    size_t start, end, room;
};

struct link {
    int fd;
    SSL *ssl;
    enum state state;
    bool is_client; /* whose frames are masked */
    bool said_goodbye, waits_for_room;
    struct buffer in, out;
    struct alarm held; /* while it is set, what is to be sent waits */
    const struct side *side;
    void *owner;
    void *(*accepted)(struct link *link);
    void (*ready)(void); /* of an input */
    struct link *next_gone;
};

static int epoll;
static SSL_CTX *tls, *tls_to_bridge;
static struct link *gone, *input;

static void *or_die(void *memory)
{
    if (!memory)
        die("out of memory", "links");
    return memory;
}

/* --- sending --------------------------------------------------------------------------------- */

static void append(struct buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->end + size > buffer->room) {
        buffer->room = 2 * (buffer->end + size);
        buffer->bytes = or_die(realloc(buffer->bytes, buffer->room));
    }
    memcpy(buffer->bytes + buffer->end, bytes, size);
    buffer->end += size;
}

/* How many bytes were taken, 0 if there is no room now, -1 if the link is broken. */
static ssize_t try_write(struct link *link, const uint8_t *bytes, size_t size)
{
    if (link->ssl) {
        int written = SSL_write(link->ssl, bytes, (int)size);
        if (written > 0)
            return written;
        int error = SSL_get_error(link->ssl, written);
        ERR_clear_error();
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    ssize_t written = send(link->fd, bytes, size, MSG_NOSIGNAL);
    return written < 0 && errno == EAGAIN ? 0 : written;
}

static void watch(struct link *link)
{
    /* TLS that waits to be answered has something to write only when that has come. */
    bool has_more = link->out.start < link->out.end && !link->held.place &&
                    !(link->ssl && SSL_want_read(link->ssl));
    bool waits = link->state == CONNECTING || has_more;
    if (waits == link->waits_for_room)
        return;
    link->waits_for_room = waits;
    struct epoll_event event = { .events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = link };
    epoll_ctl(epoll, EPOLL_CTL_MOD, link->fd, &event);
}

static void flush(struct link *link)
{
    while (link->out.start < link->out.end) {
        ssize_t taken =
            try_write(link, link->out.bytes + link->out.start, link->out.end - link->out.start);
        if (taken < 0) {
            drop(link);
            return;
        }
        if (taken == 0)
            break;
        link->out.start += (size_t)taken;
    }
    watch(link);
}

static void send_bytes(struct link *link, const void *bytes, size_t size)
{
    if (link->state == GONE)
        return;
    append(&link->out, bytes, size);
    if (!link->held.place && !link->waits_for_room)
        flush(link);
}

static void release(void *owner, uint64_t at)
{
    (void)at;
    flush(owner);
}

void say_http(struct link *link, const char *text)
{
    if (link)
        send_bytes(link, text, strlen(text));
}

static void xor_with(uint8_t *bytes, size_t size, const uint8_t mask[4])
{
    uint64_t wide, word;
    size_t i = 0;
    memcpy(&wide, mask, 4);
    memcpy((uint8_t *)&wide + 4, mask, 4);
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, bytes + i, 8);
        word ^= wide;
        memcpy(bytes + i, &word, 8);
    }
    for (; i < size; i++)
        bytes[i] ^= mask[i & 3];
}

/* Writes one frame where there is room for 14 bytes more than its data; returns its length. */
static size_t build_frame(uint8_t *frame, bool is_last, enum opcode opcode, bool is_masked,
                          const void *data, size_t size)
{
    size_t length = 0;
    frame[length++] = (uint8_t)((is_last ? 0x80 : 0) | opcode);
    if (size < 126) {
        frame[length++] = (uint8_t)size;
    } else if (size < 65536) {
        frame[length++] = 126;
        frame[length++] = (uint8_t)(size >> 8);
        frame[length++] = (uint8_t)size;
    } else {
        die("a message is too long to be sent", "64 KiB and more are not needed here");
    }
    if (is_masked) {
        uint64_t noise = chance(UINT32_MAX);
        frame[1] |= 0x80;
        memcpy(frame + length, &noise, 4);
        length += 4;
    }
    if (size)
        memcpy(frame + length, data, size);
    if (is_masked)
        xor_with(frame + length, size, frame + length - 4);
    return length + size;
}

void say(struct link *link, enum opcode opcode, const void *data, size_t size)
{
    static uint8_t frame[65536 + 14];
    if (link && link->state == OPEN && !link->said_goodbye)
        send_bytes(link, frame, build_frame(frame, true, opcode, link->is_client, data, size));
}

void say_text(struct link *link, const char *text)
{
    say(link, TEXT, text, strlen(text));
}

void say_roughly(struct link *link, enum opcode opcode, const void *data, size_t size)
{
    static uint8_t frame[65536 + 14];
    if (!link || link->state != OPEN)
        return;
    uint64_t manner = chance(4);
    if (manner == 0) { /* a ping before it */
        say(link, PING, "are you there", 13);
        meters.pings_sent++;
        say(link, opcode, data, size);
    } else if (manner == 1) { /* two fragments with a ping between them */
        size_t cut = chance(size + 1), length;
        length = build_frame(frame, false, opcode, link->is_client, data, cut);
        send_bytes(link, frame, length);
        say(link, PING, NULL, 0);
        meters.pings_sent++;
        length = build_frame(frame, true, CONTINUATION, link->is_client,
                             (const uint8_t *)data + cut, size - cut);
        send_bytes(link, frame, length);
    } else if (manner == 2 && !link->held.place && !link->ssl) { /* torn apart in TCP */
        size_t length = build_frame(frame, true, opcode, link->is_client, data, size);
        size_t cut = chance(length);
        send_bytes(link, frame, cut);
        if (link->state == OPEN)
            set_alarm(&link->held, now() + TEAR);
        send_bytes(link, frame + cut, length - cut);
    } else {
        say(link, opcode, data, size);
    }
}

void say_goodbye(struct link *link)
{
    static const uint8_t normal[2] = { 1000 >> 8, 1000 & 0xFF };
    if (!link || link->said_goodbye)
        return;
    say(link, CLOSE, normal, sizeof normal); /* after which nothing more may be said */
    link->said_goodbye = true;
}

/* --- receiving ------------------------------------------------------------------------------- */

void drop(struct link *link)
{
    if (!link || link->state == GONE)
        return;
    link->state = GONE;
    cancel_alarm(&link->held);
    SSL_free(link->ssl);
    close(link->fd);
    link->next_gone = gone;
    gone = link;
    if (link->owner)
        link->side->lost(link->owner);
}

void cut(struct link *link)
{
    static const struct linger at_once = { .l_onoff = 1 };
    if (!link || link->state == GONE)
        return;
    setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    drop(link);
}

static void bury_the_gone(void)
{
    while (gone) {
        struct link *link = gone;
        gone = link->next_gone;
        free(link->in.bytes);
        free(link->out.bytes);
        free(link);
    }
}

static void hear(struct link *link, uint8_t head, uint8_t *data, size_t size, uint64_t at)
{
    enum opcode opcode = head & 0x0F;
    if (opcode == PING) {
        say(link, PONG, data, size);
    } else if (opcode == PONG) {
        meters.pongs_heard++;
    } else if (opcode == CLOSE) {
        say_goodbye(link);
        drop(link);
    } else if (!(head & 0x80) || opcode == CONTINUATION) {
        meters.strange++;
    } else {
        link->side->heard(link->owner, opcode, data, size, at);
    }
}

/* The first whole frame of the buffer, heard; false if there is none yet. */
static bool hear_frame(struct link *link, uint64_t at)
{
    uint8_t *bytes = link->in.bytes + link->in.start;
    size_t there = link->in.end - link->in.start, length = 2;
    if (there < length)
        return false;
    bool is_masked = bytes[1] & 0x80;
    uint64_t size = bytes[1] & 0x7F;
    int wide = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (there < length + (size_t)wide)
        return false;
    for (size = wide ? 0 : size; wide; wide--)
        size = size << 8 | bytes[length++];
    length += is_masked ? 4 : 0;
    if (size > MOST_PER_MESSAGE || is_masked == link->is_client) {
        meters.strange++; /* too long, or masked the wrong way round */
        drop(link);
        return false;
    }
    if (there < length + size)
        return false;
    if (is_masked)
        xor_with(bytes + length, size, bytes + length - 4);
    link->in.start += length + size;
    hear(link, bytes[0], bytes + length, size, at);
    return link->state == OPEN;
}

/* The HTTP head that comes before all frames; true once it is whole and to the side's liking. */
static bool hear_head(struct link *link)
{
    struct buffer *in = &link->in;
    append(in, "", 1); /* so that it ends, for the string functions */
    in->end--;
    char *head = (char *)in->bytes + in->start;
    char *end = memmem(head, in->end - in->start, "\r\n\r\n", 4);
    if (!end) {
        if (in->end - in->start > MOST_PER_HEAD)
            drop(link);
        return false;
    }
    end[2] = '\0';
    in->start += (size_t)(end + 4 - head);
    link->state = OPEN;
    if (link->side->greeted(link->owner, head))
        return link->state == OPEN;
    drop(link);
    return false;
}

/* Reads what is there at once; 0: nothing more for now, -1: the end. */
static ssize_t try_read(struct link *link, uint8_t *bytes, size_t room)
{
    if (link->ssl) {
        int got = SSL_read(link->ssl, bytes, (int)room);
        if (got > 0)
            return got;
        int error = SSL_get_error(link->ssl, got);
        ERR_clear_error();
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    ssize_t got = recv(link->fd, bytes, room, 0);
    if (got < 0 && errno == EAGAIN)
        return 0;
    return got > 0 ? got : -1;
}

static void receive(struct link *link)
{
    static uint8_t bytes[READ_AT_ONCE];
    ssize_t got;
    do {
        got = try_read(link, bytes, sizeof bytes);
        if (got < 0) {
            drop(link);
            return;
        }
        if (got == 0) {
            if (link->ssl) /* its handshake may have gone on */
                flush(link);
            return;
        }
        append(&link->in, bytes, (size_t)got);
        uint64_t at = now();
        if (link->state == SHAKING_HANDS)
            hear_head(link);
        while (link->state == OPEN && hear_frame(link, at))
            continue;
        if (link->in.start < link->in.end && link->in.start > 0 && link->state == OPEN) {
            struct buffer *in = &link->in; /* the beginning of a frame: to the front */
            memmove(in->bytes, in->bytes + in->start, in->end - in->start);
            in->end -= in->start;
            in->start = 0;
        }
    } while (link->state != GONE && (link->ssl || got == READ_AT_ONCE));
}

/* --- opening --------------------------------------------------------------------------------- */

static struct link *new_link(int fd, enum state state, const struct side *side)
{
    struct link *link = or_die(calloc(1, sizeof *link));
    int on = 1;
    link->fd = fd;
    link->state = state;
    link->side = side;
    link->held.ring = release;
    link->held.owner = link;
    link->waits_for_room = state == CONNECTING;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = { .events = EPOLLIN | (state == CONNECTING ? EPOLLOUT : 0),
                                 .data.ptr = link };
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return link;
}

struct address {
    struct sockaddr_storage bytes;
    socklen_t size;
};

static struct address address_of(const char *host, int port)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *found;
    struct address address = { .size = 0 };
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &found))
        die("expected an address in digits as --host", host);
    memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
    address.size = found->ai_addrlen;
    freeaddrinfo(found);
    return address;
}

static int new_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("cannot open a socket (raise `ulimit -n`?)", strerror(errno));
    return fd;
}

struct link *dial(const char *host, int port, const struct side *side, void *owner)
{
    struct address address = address_of(host, port);
    int fd = new_socket(address.bytes.ss_family);
    /* Refused at once or later: epoll tells. */
    (void)!connect(fd, (struct sockaddr *)&address.bytes, address.size);
    struct link *link = new_link(fd, CONNECTING, side);
    link->is_client = true;
    link->owner = owner;
    return link;
}

static void finish_connecting(struct link *link)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        drop(link);
        return;
    }
    link->state = SHAKING_HANDS;
    if (tls_to_bridge) {
        link->ssl = or_die(SSL_new(tls_to_bridge));
        SSL_set_fd(link->ssl, link->fd);
        SSL_set_connect_state(link->ssl);
        link->side->secured(link->owner, link->ssl);
    }
    watch(link);
    link->side->connected(link->owner);
}

void answer_at(int port, void *(*accepted)(struct link *link), const struct side *side)
{
    struct address address = address_of("127.0.0.1", port);
    int fd = new_socket(AF_INET), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address.bytes, address.size) || listen(fd, 4096))
        die("cannot listen at --agent-port", strerror(errno));
    new_link(fd, LISTENING, side)->accepted = accepted;
}

static void accept_all(struct link *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct link *link = new_link(fd, SHAKING_HANDS, listener->side);
        if (tls) {
            link->ssl = or_die(SSL_new(tls));
            SSL_set_fd(link->ssl, fd);
            SSL_set_accept_state(link->ssl);
        }
        link->owner = listener->accepted(link);
    }
}

void watch_input(int fd, void (*ready)(void))
{
    input = new_link(fd, INPUT, NULL);
    input->ready = ready;
}

void forget_input(int fd)
{
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

void prepare_links(const char *pem, bool dials_securely)
{
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (dials_securely) {
        tls_to_bridge = or_die(SSL_CTX_new(TLS_client_method()));
        SSL_CTX_set_mode(tls_to_bridge,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_verify(tls_to_bridge, SSL_VERIFY_PEER, NULL);
        if (SSL_CTX_set_default_verify_paths(tls_to_bridge) != 1)
            die("cannot read the certificates that are trusted", "SSL_CERT_FILE names others");
    }
    if (!pem)
        return;
    tls = or_die(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(tls, pem) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, pem, SSL_FILETYPE_PEM) != 1)
        die("expected a key and its certificate in the file given as --tls", pem);
}

void serve_links(uint64_t until)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t at = now(), wait = until > at ? until - at : 0;
    struct timespec timeout = { .tv_sec = (time_t)(wait / SECOND),
                                .tv_nsec = (long)(wait % SECOND) };
    int count = epoll_pwait2(epoll, events, EVENTS_AT_ONCE, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct link *link = events[i].data.ptr;
        if (link->state == LISTENING) {
            accept_all(link);
        } else if (link->state == INPUT) {
            link->ready();
        } else if (link->state == CONNECTING) {
            finish_connecting(link);
        } else {
            if (link->state != GONE && events[i].events & EPOLLOUT)
                flush(link);
            if (link->state != GONE && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(link);
        }
    }
    bury_the_gone();
}
