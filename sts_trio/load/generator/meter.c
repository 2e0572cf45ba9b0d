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

void add_sample(struct samples *samples, uint64_t nanoseconds)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 4096;
        samples->microseconds =
            realloc(samples->microseconds, samples->room * sizeof *samples->microseconds);
        if (!samples->microseconds)
            die("out of memory", "samples");
    }
    uint64_t microseconds = nanoseconds / 1000;
    samples->microseconds[samples->count++] =
        microseconds < UINT32_MAX ? (uint32_t)microseconds : UINT32_MAX;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct samples *sorted, double share)
{
    size_t rank = (size_t)(share * (double)sorted->count);
    return sorted->microseconds[rank < sorted->count ? rank : sorted->count - 1] / 1000.0;
}

void print_samples(const char *name, struct samples *samples)
{
    if (!samples->count) {
        printf("\"%s\": null, ", name);
        return;
    }
    qsort(samples->microseconds, samples->count, sizeof *samples->microseconds, by_size);
    printf("\"%s\": {\"count\": %zu, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, "
           "\"p999\": %.3f, \"max\": %.3f}, ",
           name, samples->count, percentile(samples, 0.5), percentile(samples, 0.9),
           percentile(samples, 0.99), percentile(samples, 0.999), percentile(samples, 1));
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
        die("no such process to account for", path);
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
        if (!file)
            die("no such process to account for", line);
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "VmRSS: %lu", &kb) == 1)
                total += (double)kb;
        fclose(file);
    }
    return total;
}

double own_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
