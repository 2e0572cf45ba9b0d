/* Time, alarms in a binary heap, and noise that can be made again. */
#include "loadgen.h"

#include <stdlib.h>
#include <time.h>

static struct alarm **heap; /* from 1; heap[1] is due first */
static size_t count, room;

uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void put(size_t place, struct alarm *alarm)
{
    heap[place] = alarm;
    alarm->place = place;
}

/* Moves the alarm up or down from where it stands to where it belongs. */
static void settle(struct alarm *alarm)
{
    size_t place = alarm->place;
    while (place > 1 && heap[place / 2]->due > alarm->due) {
        put(place, heap[place / 2]);
        place /= 2;
    }
    for (size_t child; (child = 2 * place) <= count; place = child) {
        if (child < count && heap[child + 1]->due < heap[child]->due)
            child++;
        if (heap[child]->due >= alarm->due)
            break;
        put(place, heap[child]);
    }
    put(place, alarm);
}

void set_alarm(struct alarm *alarm, uint64_t due)
{
    alarm->due = due;
    if (!alarm->place) {
        if (count + 1 >= room) {
            room = room ? 2 * room : 1024;
            heap = realloc(heap, room * sizeof *heap);
            if (!heap)
                die("out of memory", "alarms");
        }
        put(++count, alarm);
    }
    settle(alarm);
}

void cancel_alarm(struct alarm *alarm)
{
    size_t place = alarm->place;
    if (!place)
        return;
    struct alarm *last = heap[count--];
    alarm->place = 0;
    if (last != alarm) {
        put(place, last);
        settle(last);
    }
}

uint64_t ring_alarms(void)
{
    /* Only what is due by now: a generator that is late must still serve its links in between. */
    uint64_t start = now();
    while (count && heap[1]->due <= start) {
        struct alarm *alarm = heap[1];
        uint64_t at = now(), lag = at - alarm->due;
        if (in_window(at)) {
            add_sample(&meters.lag, lag);
            if (lag > meters.worst_lag)
                meters.worst_lag = lag;
        }
        cancel_alarm(alarm);
        alarm->ring(alarm->owner, at);
    }
    return count ? heap[1]->due : start + SECOND;
}

uint64_t scramble(uint64_t seed)
{
    uint64_t z = seed + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

uint64_t chance(uint64_t below)
{
    static uint64_t state = 1;
    return below ? scramble(state++) % below : 0;
}

bool happens(double share)
{
    return share > 0 && (double)chance(1000000) < share * 1000000;
}
