/* What is counted, as JSON; and what the server costs, as the kernel tells it. */
#include "loadgen.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct meters meters = { .up = { .name = "up" }, .down = { .name = "down" } };

bool in_window(uint64_t at)
{
    return at >= meters.from && at < meters.to;
}

/* A doubling is so many buckets, by the bits that follow the first one: microseconds are told apart
 * up to 256, and beyond to within 0.4 %. As python/histogram.py does. */
enum { BITS = 7, FINE = 1 << BITS };

static size_t bucket_of(uint32_t microseconds)
{
    int length = microseconds ? 32 - __builtin_clz(microseconds) : 0;
    int shift = length > BITS + 1 ? length - BITS - 1 : 0;
    return (size_t)shift * FINE + (microseconds >> shift);
}

/* Of what is in it, in microseconds. */
static double middle_of(size_t bucket)
{
    size_t shift = bucket < 2 * FINE ? 0 : bucket / FINE - 1;
    return (double)((bucket - shift * FINE) << shift) + (double)((1UL << shift) - 1) / 2;
}

void add_sample(struct samples *samples, uint64_t nanoseconds)
{
    uint64_t time = nanoseconds / 1000;
    uint32_t microseconds = time < UINT32_MAX ? (uint32_t)time : UINT32_MAX;
    samples->buckets[bucket_of(microseconds)]++;
    samples->count++;
    if (microseconds > samples->most)
        samples->most = microseconds;
}

static double percentile(const struct samples *samples, double share)
{
    uint64_t rank = (uint64_t)(share * (double)samples->count), below = 0;
    size_t bucket = 0;
    for (; bucket < BUCKETS && (below += samples->buckets[bucket]) <= rank; bucket++)
        continue;
    double middle = middle_of(bucket);
    return (middle < samples->most ? middle : samples->most) / 1000;
}

void print_samples(const char *name, const struct samples *samples)
{
    if (!samples->count) {
        printf("\"%s\": null, ", name);
        return;
    }
    printf("\"%s\": {\"count\": %lu, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, "
           "\"p999\": %.3f, \"max\": %.3f}, ",
           name, samples->count, percentile(samples, 0.5), percentile(samples, 0.9),
           percentile(samples, 0.99), percentile(samples, 0.999), samples->most / 1000.0);
}

void print_audio(const struct audio_meter *meter)
{
    double ok = meter->sent ? 100.0 * (double)meter->arrived / (double)meter->sent : 0;
    printf("\"%s\": {\"sent\": %lu, \"arrived\": %lu, \"ok\": %.3f, \"lost\": %lu, "
           "\"disordered\": %lu, \"corrupt\": %lu, \"foreign\": %lu, \"filler\": %lu}, ",
           meter->name, meter->sent, meter->arrived, ok, meter->lost, meter->disordered,
           meter->corrupt, meter->foreign, meter->filler);
}

/* The time on a CPU of every thread of a process. (utime and stime tick 100 times a second; this
 * counts nanoseconds. A thread that ended took its time with it: the servers' threads do not.) */
static double cpu_seconds_of(int pid)
{
    char path[64];
    double total = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return 0; /* see `has_died` */
    for (struct dirent *task; (task = readdir(tasks));) {
        int thread = atoi(task->d_name);
        unsigned long on_cpu;
        if (!thread)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, thread);
        FILE *file = fopen(path, "r");
        if (!file)
            continue; /* it ended just now */
        if (fscanf(file, "%lu", &on_cpu) == 1)
            total += (double)on_cpu / 1e9;
        fclose(file);
    }
    closedir(tasks);
    return total;
}

double cpu_seconds_of_server(void)
{
    double total = 0;
    for (int i = 0; i < plan.pid_count; i++)
        total += cpu_seconds_of(plan.pids[i]);
    return total;
}

double rss_kb_of_server(void)
{
    double total = 0;
    for (int i = 0; i < plan.pid_count; i++) {
        char line[256];
        unsigned long kb;
        snprintf(line, sizeof line, "/proc/%d/status", plan.pids[i]);
        FILE *file = fopen(line, "r");
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "VmRSS: %lu", &kb) == 1)
                total += (double)kb;
        if (file)
            fclose(file);
    }
    return total;
}

/* Also who is only waited for by their parent, and has nothing any more. */
bool has_died(int pid)
{
    char line[256], state = 'X';
    snprintf(line, sizeof line, "/proc/%d/status", pid);
    FILE *file = fopen(line, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "State: %c", &state) == 1)
            break;
    if (file)
        fclose(file);
    return state == 'X' || state == 'Z';
}

double own_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
