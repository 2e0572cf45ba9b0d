/* What the generator's parts know of each other. main.c tells what it is and how a run goes. */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MILLISECOND 1000000ull /* all times are nanoseconds of the monotonic clock */
#define SECOND 1000000000ull

enum { FRAME = 160 }; /* bytes of one media frame: 20 ms of µ-law */
enum { MOST_PIDS = 64 };

/* What was asked for on the command line. */
struct plan {
    int calls;
    double seconds, warm_up, late, ramp, churn, turn, farewell;
    double speech, barge_in;   /* the agent's, in seconds; the share of it that is interrupted */
    double endings[3];         /* weights, by `enum ending` */
    double most_cpu, most_lag; /* beyond these the run is void: a share of a core, seconds */
    const char *host, *path, *pem;
    int port, agent_port;
    bool rough, secure, reads_places, tells_progress;
    int pids[MOST_PIDS], pid_count;
};
extern struct plan plan;

/* ---- clock.c: time, and what is to happen when ---------------------------------------------- */

struct alarm {
    uint64_t due;
    size_t place; /* in the heap; 0: not set */
    void (*ring)(void *owner, uint64_t at);
    void *owner;
};

uint64_t now(void);
void set_alarm(struct alarm *alarm, uint64_t due);
void cancel_alarm(struct alarm *alarm);
/* Rings what is due; returns when the next one is. */
uint64_t ring_alarms(void);
uint64_t scramble(uint64_t seed); /* splitmix64: the same noise for the same seed */
uint64_t chance(uint64_t below);
bool happens(double share);

/* ---- meter.c: what is counted, and the server's costs ---------------------------------------- */

/* Durations, counted by size: as much memory after a day as after a minute. */
enum { BUCKETS = 26 << 7 };
struct samples {
    uint64_t count, buckets[BUCKETS];
    uint32_t most; /* microseconds */
};

/* One direction of the audio. All but the last five count blocks sent inside the window. */
struct audio_meter {
    const char *name;
    uint64_t sent, arrived;
    struct samples delay;
    uint64_t lost;       /* a later block came, this one did not */
    uint64_t disordered; /* came after a later one, or twice */
    uint64_t corrupt;    /* not the bytes that were sent */
    uint64_t foreign;    /* another call's */
    uint64_t filler;     /* silence that the bridge made up, in frames */
};

struct meters {
    uint64_t from, to; /* the window; `to` is far away while it is open, both 0 before */
    struct audio_meter up, down;
    struct samples setup, reach, clear, gone, released;
    struct samples lag; /* of our own alarms, in the window */
    uint64_t clears_asked, clears_answered, clears_unasked;
    uint64_t pings_sent, pongs_heard;
    uint64_t refused; /* handshakes */
    uint64_t cut_off; /* calls whose socket, or whose agent, the bridge let go */
    uint64_t strange; /* messages that no peer should send */
    uint64_t kept;    /* callers whose socket stayed open when their agent had ended the session */
    uint64_t marks, churned;
    uint64_t worst_lag;
};
extern struct meters meters;

bool in_window(uint64_t at);
void add_sample(struct samples *samples, uint64_t nanoseconds);
void print_samples(const char *name, const struct samples *samples);
void print_audio(const struct audio_meter *meter);
double cpu_seconds_of_server(void);
double rss_kb_of_server(void);
double own_cpu_seconds(void);
bool has_died(int pid);

/* ---- block.c: audio that can be checked ------------------------------------------------------ */

/* 20 ms of "audio" that knows when it was sent, in which call, and whether it is whole. */
struct block {
    uint64_t sent;
    uint32_t serial; /* the call */
    uint32_t number; /* in this call and direction, from 0 */
    uint64_t noise[17];
    uint64_t checksum;
};

enum { NO_CALL = -1 };

/* Puts a stream of bytes, however cut, together again as blocks. */
struct ear {
    struct audio_meter *meter;
    int64_t serial; /* whose audio this is; NO_CALL until the first block tells */
    uint32_t next;  /* the number of the block that is to come */
    size_t filled;
    struct block block;
};

void fill_block(struct block *block, struct audio_meter *meter, uint32_t serial, uint32_t number);
void listen_to(struct ear *ear, const uint8_t *audio, size_t size, uint64_t at);

/* ---- link.c: a websocket, as client or as server --------------------------------------------- */

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

struct link;
struct ssl_st;

/* What an owner does about its link. After `lost` the link is no more. */
struct side {
    void (*secured)(void *owner, struct ssl_st *ssl); /* before TLS shakes hands: name the peer */
    void (*connected)(void *owner);
    bool (*greeted)(void *owner, char *http_head); /* false: this is no websocket, drop it */
    void (*heard)(void *owner, enum opcode opcode, uint8_t *data, size_t size, uint64_t at);
    void (*lost)(void *owner);
};

void prepare_links(const char *pem, bool dials_securely);
struct link *dial(const char *host, int port, const struct side *side, void *owner);
void answer_at(int port, void *(*accepted)(struct link *link), const struct side *side);
/* Sends; to a link that is NULL or gone it does nothing. */
void say_http(struct link *link, const char *text);
void say(struct link *link, enum opcode opcode, const void *data, size_t size);
void say_text(struct link *link, const char *text);
/* The same message in ways that are legal but rare: torn apart, in fragments, behind a ping. */
void say_roughly(struct link *link, enum opcode opcode, const void *data, size_t size);
void say_goodbye(struct link *link);
void drop(struct link *link);
/* As a process that dies: without a goodbye, and with a reset. */
void cut(struct link *link);
/* Calls `ready` whenever there is something to be read, until `forget_input`. */
void watch_input(int fd, void (*ready)(void));
void forget_input(int fd);
/* Serves the links until then at the latest. */
void serve_links(uint64_t until);

/* ---- caller.c and agent.c: the two peers of the bridge --------------------------------------- */

struct session;

/* How a call ends: the caller hangs up, their socket is lost, the agent ends its session. */
enum ending { BY_STOP, BY_CUT, BY_AGENT };
enum way { UP, DOWN };

/* Where a call is placed, and what it says of itself. */
struct place {
    const char *call_sid, *host, *path, *parameters, *headers;
};

struct call {
    uint32_t serial;
    bool is_refused, is_cut_off, was_reached, is_ending;
    struct place place;
    uint32_t sent[2], arrived[2]; /* blocks of the window, by `enum way` */
    uint32_t known[2];            /* the number of the block that has not come yet */
    struct link *link;
    struct session *session; /* the agent's end, once its audio told whose it is */
    struct alarm beat;
    uint64_t dialled, hung_up;  /* hung_up: 0 while it lasts */
    uint64_t left_by_agent;     /* 0 unless the agent has ended its session */
    uint32_t frames, blocks; /* that were said to the agent, and by it */
    uint64_t messages;
    struct ear ear;
    char own_sid[35], stream_sid[35];
};

/* At the place of the plan, or at that of a line: its fields are call SID, Host, path, parameters
 * as JSON, and headers, with tabs between; a line that is "!" is a call that the webhook refused. */
struct call *place_call(const char *line);
void hang_up(struct call *call);
/* Ends it in one of the ways of the plan, by their weights. */
void end_call(struct call *call);
/* Calls that were refused, cut off, never led to an agent, or not heard in the window. */
uint32_t calls_failed(void);
struct call *find_call(uint32_t serial); /* NULL: there was none */
uint32_t calls_placed(void);
bool is_through(const struct call *call); /* both its sockets are open, and audio has come */
/* `clear` has come to the caller; tells the session, if there is one. */
void clear_heard(struct session *session, uint64_t at);

void start_agent(int port);
void caller_left(struct session *session);
/* The agent ends its session, properly, once it has said what it says in this turn. */
void leave_caller(struct session *session);
/* Sessions still open that long after their caller hung up. */
int sessions_left_open(uint64_t grace);

void die(const char *what, const char *why);

#endif
