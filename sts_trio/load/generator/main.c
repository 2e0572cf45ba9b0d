/* A load generator for bridges between Twilio's Media Streams and Deepgram's Voice Agent. It plays
 * both peers in one thread, so that delay is the difference of two readings of one clock.
 *
 *     callers (caller.c) ──► the bridge under test ──► agent (agent.c)
 *             ▲                                           │
 *             └────────────── the bridge ◄────────────────┘
 *
 * A run: the calls are placed one after the other (ramp); some time passes (warm-up); then, in the
 * window, everything is measured; then a second goes by in which what was sent in the window may
 * still arrive. What counts is when a block was sent, so that the window's edges favour nobody.
 * If asked for, everybody then hangs up at once, and what stays open is counted (farewell).
 *
 * Prints one line of JSON. Exits 0, or 1 if the generator itself was too slow for its figures to
 * mean anything, or 2 if there was no run. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A session that is open so long after its caller's goodbye is left behind. */
#define LEFT_OPEN (2 * SECOND)

struct plan plan = {
    .calls = 50,
    .seconds = 10,
    .warm_up = 2,
    .late = 1,
    .ramp = 100,
    .turn = 4,
    .speech = 2,
    .endings = { 1, 0, 0 },
    .most_cpu = 0.7,
    .most_lag = 0.020,
    .host = "127.0.0.1",
    .path = "/twilio",
    .port = 5000,
    .agent_port = 5001,
};

static const char usage[] =
    "usage: loadgen [option...]\n"
    "  --calls N          calls at the same time (50)\n"
    "  --seconds S        how long to measure (10)\n"
    "  --warm-up S        time between the last call's start and the window (2)\n"
    "  --late S           what comes later than this after the window is lost (1)\n"
    "  --ramp N           calls started per second (100)\n"
    "  --churn N          calls ended and started per second, in the window (0)\n"
    "  --turn S           the agent takes a turn this often (4)\n"
    "  --speech S         and speaks for so long (2)\n"
    "  --barge-in X       the share of its turns that the caller cuts short (0)\n"
    "  --endings A,B,C    weights: the caller hangs up, a socket is lost, the agent ends (1,0,0)\n"
    "  --places           a line of standard input for each call: where it is placed, see caller.c\n"
    "  --progress         a line of JSON each second\n"
    "  --secure           TLS to the bridge\n"
    "  --farewell S       then hang up all calls and watch what is left open (0: do not)\n"
    "  --rough            legal but rare: torn and fragmented frames, pings, odd chunks\n"
    "  --host A --port N  the bridge (127.0.0.1:5000)\n"
    "  --path P           its websocket's path (/twilio)\n"
    "  --agent-port N     where the agent listens, on 127.0.0.1 (5001)\n"
    "  --tls FILE         TLS for the agent: PEM with key and certificate\n"
    "  --pid N            a process of the bridge, to account for; may be repeated\n"
    "  --most-cpu X       void above this share of a core for the generator (0.7)\n"
    "  --most-lag S       void above this delay of the generator's own clock (0.020)\n";

void die(const char *what, const char *why)
{
    fprintf(stderr, "loadgen: %s: %s\n", what, why);
    exit(2);
}

/* --- the phases of a run --------------------------------------------------------------------- */

static struct call **lines; /* plan.calls of them: who is on each */
static uint64_t began;
static int oldest; /* the line whose call is the next to be ended by churn */
static int live;   /* calls that were through when the window opened */
static bool is_over, is_open;
static double window, server_cpu, own_cpu, rss_before, rss_after;
static struct alarm phase, churn, progress;

static void enter(void (*next)(void *, uint64_t), uint64_t due)
{
    phase.ring = next;
    set_alarm(&phase, due);
}

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * SECOND);
}

static void end_run(void *owner, uint64_t at)
{
    (void)owner;
    (void)at;
    is_over = true;
}

static void say_farewell(void *owner, uint64_t at)
{
    (void)owner;
    for (int i = 0; i < plan.calls; i++)
        if (lines[i])
            end_call(lines[i]);
    enter(end_run, at + nanoseconds(plan.farewell));
}

static void close_window(void *owner, uint64_t at)
{
    (void)owner;
    own_cpu = own_cpu_seconds() - own_cpu;
    server_cpu = cpu_seconds_of_server() - server_cpu;
    rss_after = rss_kb_of_server();
    for (int i = 0; i < plan.pid_count; i++)
        if (has_died(plan.pids[i])) /* and took what it has cost with it */
            server_cpu = rss_before = rss_after = 0;
    meters.to = now();
    is_open = false;
    window = (double)(meters.to - meters.from) / SECOND;
    cancel_alarm(&churn);
    enter(plan.farewell > 0 ? say_farewell : end_run, at + nanoseconds(plan.late));
}

static int lines_through(void)
{
    int through = 0;
    for (int i = 0; i < plan.calls && lines[i]; i++)
        through += is_through(lines[i]);
    return through;
}

static void open_window(void *owner, uint64_t at)
{
    (void)owner;
    (void)at;
    live = lines_through();
    is_open = true;
    server_cpu = cpu_seconds_of_server();
    own_cpu = own_cpu_seconds();
    meters.from = now();
    meters.to = UINT64_MAX;
    if (plan.churn > 0)
        set_alarm(&churn, meters.from);
    enter(close_window, meters.from + nanoseconds(plan.seconds));
}

static void replace_a_call(const char *line)
{
    end_call(lines[oldest]);
    lines[oldest] = place_call(line);
    oldest = (oldest + 1) % plan.calls;
    meters.churned++;
}

static void change_a_call(void *owner, uint64_t at)
{
    (void)owner;
    (void)at;
    replace_a_call(NULL);
    set_alarm(&churn, churn.due + nanoseconds(1 / plan.churn));
}

static void place_next_call(void *owner, uint64_t at)
{
    uint32_t placed = calls_placed();
    (void)owner;
    lines[placed] = place_call(NULL);
    if (++placed < (uint32_t)plan.calls)
        enter(place_next_call, began + nanoseconds(placed / plan.ramp));
    else
        enter(open_window, at + nanoseconds(plan.warm_up));
}

/* A line of standard input: the place of the next call, or of one that comes for another. */
static void hear_place(const char *line)
{
    uint32_t placed = calls_placed();
    if (placed >= (uint32_t)plan.calls) {
        if (is_open)
            replace_a_call(line);
        return;
    }
    lines[placed] = place_call(line);
    if (++placed == (uint32_t)plan.calls)
        enter(open_window, now() + nanoseconds(plan.warm_up));
}

static void read_places(void)
{
    static char text[65536];
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, text + filled, sizeof text - filled);
    if (got <= 0) {
        if (calls_placed() < (uint32_t)plan.calls)
            die("--places", "standard input has ended before all calls were placed");
        forget_input(STDIN_FILENO);
        return;
    }
    filled += (size_t)got;
    char *end, *line = text;
    while ((end = memchr(line, '\n', filled - (size_t)(line - text)))) {
        *end = '\0';
        hear_place(line);
        line = end + 1;
    }
    filled -= (size_t)(line - text);
    memmove(text, line, filled);
    if (filled == sizeof text)
        die("--places", "a line is too long");
}

static void tell_progress(void *owner, uint64_t at)
{
    (void)owner;
    printf("{\"placed\": %u, \"through\": %d, \"is_open\": %s, "
           "\"refused\": %lu, \"cut_off\": %lu, \"up\": %lu, \"down\": %lu, "
           "\"own_lag_ms\": %.3f}\n",
           calls_placed(), lines_through(), is_open ? "true" : "false",
           meters.refused, meters.cut_off, meters.up.arrived, meters.down.arrived,
           (double)meters.worst_lag * 1e3 / SECOND);
    if (fflush(stdout) == EOF)
        exit(1); /* nobody is there who would read the end */
    set_alarm(&progress, at + SECOND);
}

/* --- the report ------------------------------------------------------------------------------ */

static void print_the_dead(void)
{
    const char *comma = "";
    printf("\"died\": [");
    for (int i = 0; i < plan.pid_count; i++)
        if (has_died(plan.pids[i])) {
            printf("%s%d", comma, plan.pids[i]);
            comma = ", ";
        }
    printf("], ");
}

static bool report(void)
{
    double share = own_cpu / window, lag = (double)meters.worst_lag / SECOND;
    char reason[160] = "";
    if (share > plan.most_cpu)
        snprintf(reason, sizeof reason, "the generator used %.2f of a core, more than %.2f", share,
                 plan.most_cpu);
    else if (lag > plan.most_lag)
        snprintf(reason, sizeof reason, "the generator was late by %.1f ms, more than %.1f",
                 lag * 1e3, plan.most_lag * 1e3);
    printf("{\"calls\": %d, \"seconds\": %.3f, \"live\": %d, \"churned\": %lu, "
           "\"cpu_ms_per_call_second\": %.4f, \"utilisation\": %.4f, \"kb_per_call\": %.1f, "
           "\"rss_mb\": %.1f, ",
           plan.calls, window, live, meters.churned, 1e3 * server_cpu / window / plan.calls,
           server_cpu / window, (rss_after - rss_before) / plan.calls, rss_after / 1024);
    print_audio(&meters.up);
    print_audio(&meters.down);
    print_samples("up_ms", &meters.up.delay);
    print_samples("down_ms", &meters.down.delay);
    print_samples("clear_ms", &meters.clear);
    print_samples("setup_ms", &meters.setup);
    print_samples("reach_ms", &meters.reach);
    print_samples("gone_ms", &meters.gone);
    print_samples("released_ms", &meters.released);
    print_samples("own_lag", &meters.lag);
    printf("\"clears\": {\"asked\": %lu, \"answered\": %lu, \"unasked\": %lu}, "
           "\"pings\": {\"sent\": %lu, \"answered\": %lu}, \"marks\": %lu, "
           "\"refused\": %lu, \"cut_off\": %lu, \"strange\": %lu, \"left_open\": %d, "
           "\"kept\": %lu, \"placed\": %u, \"failed\": %u, "
           "\"own_utilisation\": %.4f, \"own_lag_ms\": %.3f, ",
           meters.clears_asked, meters.clears_answered, meters.clears_unasked, meters.pings_sent,
           meters.pongs_heard, meters.marks, meters.refused, meters.cut_off, meters.strange,
           sessions_left_open(LEFT_OPEN), meters.kept, calls_placed(), calls_failed(), share,
           lag * 1e3);
    print_the_dead();
    printf(*reason ? "\"void\": \"%s\"}\n" : "\"void\": null%s}\n", reason);
    if (*reason)
        fprintf(stderr, "loadgen: the run is void: %s\n", reason);
    return !*reason;
}

/* --- the command line ------------------------------------------------------------------------ */

static double number(const char *option, const char *text, double least)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < least) {
        fprintf(stderr, "loadgen: --%s: expected a number of at least %g, got \"%s\"\n", option,
                least, text);
        exit(2);
    }
    return value;
}

static void read_endings(const char *text)
{
    double *w = plan.endings;
    char more;
    bool is_read = sscanf(text, "%lf,%lf,%lf%c", w, w + 1, w + 2, &more) == 3;
    if (!is_read || w[0] < 0 || w[1] < 0 || w[2] < 0 || w[0] + w[1] + w[2] <= 0)
        die("--endings: expected three weights, as in 8,1,1", text);
}

static void read_plan(int count, char **words)
{
    enum { CALLS, SECONDS, WARM_UP, LATE, RAMP, CHURN, TURN, FAREWELL, ROUGH, HOST, PORT, PATH,
           AGENT_PORT, TLS, PID, MOST_CPU, MOST_LAG, SPEECH, BARGE_IN, ENDINGS, PLACES, PROGRESS,
           SECURE, HELP };
    static const struct option options[] = {
        { "calls", required_argument, NULL, CALLS },
        { "seconds", required_argument, NULL, SECONDS },
        { "warm-up", required_argument, NULL, WARM_UP },
        { "late", required_argument, NULL, LATE },
        { "ramp", required_argument, NULL, RAMP },
        { "churn", required_argument, NULL, CHURN },
        { "turn", required_argument, NULL, TURN },
        { "farewell", required_argument, NULL, FAREWELL },
        { "rough", no_argument, NULL, ROUGH },
        { "host", required_argument, NULL, HOST },
        { "port", required_argument, NULL, PORT },
        { "path", required_argument, NULL, PATH },
        { "agent-port", required_argument, NULL, AGENT_PORT },
        { "tls", required_argument, NULL, TLS },
        { "pid", required_argument, NULL, PID },
        { "most-cpu", required_argument, NULL, MOST_CPU },
        { "most-lag", required_argument, NULL, MOST_LAG },
        { "speech", required_argument, NULL, SPEECH },
        { "barge-in", required_argument, NULL, BARGE_IN },
        { "endings", required_argument, NULL, ENDINGS },
        { "places", no_argument, NULL, PLACES },
        { "progress", no_argument, NULL, PROGRESS },
        { "secure", no_argument, NULL, SECURE },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    int option, place = 0;
    while ((option = getopt_long(count, words, "", options, &place)) >= 0) {
        const char *name = options[place].name;
        switch (option) {
        case CALLS: plan.calls = (int)number(name, optarg, 1); break;
        case SECONDS: plan.seconds = number(name, optarg, 0.1); break;
        case WARM_UP: plan.warm_up = number(name, optarg, 0); break;
        case LATE: plan.late = number(name, optarg, 0); break;
        case RAMP: plan.ramp = number(name, optarg, 0.1); break;
        case CHURN: plan.churn = number(name, optarg, 0); break;
        case TURN: plan.turn = number(name, optarg, 0.1); break;
        case FAREWELL: plan.farewell = number(name, optarg, 0); break;
        case ROUGH: plan.rough = true; break;
        case HOST: plan.host = optarg; break;
        case PORT: plan.port = (int)number(name, optarg, 1); break;
        case PATH: plan.path = optarg; break;
        case AGENT_PORT: plan.agent_port = (int)number(name, optarg, 1); break;
        case TLS: plan.pem = optarg; break;
        case PID:
            if (plan.pid_count == MOST_PIDS)
                die("--pid", "too many processes");
            plan.pids[plan.pid_count++] = (int)number(name, optarg, 1);
            break;
        case MOST_CPU: plan.most_cpu = number(name, optarg, 0); break;
        case MOST_LAG: plan.most_lag = number(name, optarg, 0); break;
        case SPEECH: plan.speech = number(name, optarg, 0.02); break;
        case BARGE_IN: plan.barge_in = number(name, optarg, 0); break;
        case ENDINGS: read_endings(optarg); break;
        case PLACES: plan.reads_places = true; break;
        case PROGRESS: plan.tells_progress = true; break;
        case SECURE: plan.secure = true; break;
        case HELP: fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < count)
        die("unexpected argument", words[optind]);
}

int main(int count, char **words)
{
    /* OpenSSL writes without MSG_NOSIGNAL, and connections are reset: that ends a call. */
    signal(SIGPIPE, SIG_IGN);
    read_plan(count, words);
    lines = calloc((size_t)plan.calls, sizeof *lines);
    if (!lines)
        die("out of memory", "lines");
    for (int i = 0; i < plan.pid_count; i++)
        if (has_died(plan.pids[i]))
            die("--pid", "there is no such process to account for");
    rss_before = rss_kb_of_server();
    prepare_links(plan.pem, plan.secure);
    start_agent(plan.agent_port);
    churn.ring = change_a_call;
    progress.ring = tell_progress;
    began = now();
    if (plan.tells_progress)
        set_alarm(&progress, began + SECOND);
    if (plan.reads_places)
        watch_input(STDIN_FILENO, read_places);
    else
        enter(place_next_call, began);
    for (uint64_t next; next = ring_alarms(), !is_over;)
        serve_links(next);
    return report() ? 0 : 1;
}
