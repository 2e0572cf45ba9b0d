/* Audio that can be checked: every 160 bytes tell when they were sent, by whom, and if they are
 * whole, so that delay is measured for each 20 ms however the bridge cuts and joins them. */
#include "loadgen.h"

#include <string.h>

/* The length of a block is the length of a media frame, or this does not compile. */
typedef char a_block_is_a_frame[sizeof(struct block) == FRAME ? 1 : -1];

/* Differs between the directions: a caller that is sent its own voice hears nonsense. */
static uint64_t checksum(const struct block *block, const struct audio_meter *meter)
{
    uint64_t words[FRAME / 8], sum = meter == &meters.up ? 1 : 2;
    memcpy(words, block, FRAME);
    for (int i = 0; i < FRAME / 8 - 1; i++) {
        sum = (sum ^ words[i]) * 0x9E3779B97F4A7C15ull;
        sum ^= sum >> 29;
    }
    return sum;
}

void fill_block(struct block *block, struct audio_meter *meter, uint32_t serial, uint32_t number)
{
    uint64_t seed = (uint64_t)serial << 32 | number;
    block->sent = now();
    block->serial = serial;
    block->number = number;
    for (int i = 0; i < 17; i++)
        block->noise[i] = scramble(seed * 17 + (uint64_t)i);
    block->checksum = checksum(block, meter);
    if (in_window(block->sent)) {
        struct call *call = find_call(serial);
        meter->sent++;
        if (call)
            call->sent[meter == &meters.up ? UP : DOWN]++;
    }
}

static bool is_silence(const struct block *block)
{
    const uint8_t *bytes = (const uint8_t *)block;
    for (int i = 0; i < FRAME; i++)
        if (bytes[i] != 0xFF)
            return false;
    return true;
}

static void judge(struct ear *ear, uint64_t at)
{
    const struct block *block = &ear->block;
    struct audio_meter *meter = ear->meter;
    if (is_silence(block)) {
        meter->filler++;
        return;
    }
    if (block->checksum != checksum(block, meter) || block->sent > at) {
        meter->corrupt++;
        return;
    }
    enum way way = meter == &meters.up ? UP : DOWN;
    struct call *call = find_call(block->serial);
    if (ear->serial == NO_CALL) {
        ear->serial = block->serial;
        /* An agent that comes after another may be told again what the other has heard. */
        if (call && call->known[way])
            ear->next = block->number;
    }
    if (ear->serial != block->serial) {
        meter->foreign++;
        return;
    }
    if (block->number < ear->next) {
        meter->disordered++;
        return;
    }
    meter->lost += block->number - ear->next;
    ear->next = block->number + 1;
    bool is_new = !call || block->number >= call->known[way];
    if (call && is_new)
        call->known[way] = block->number + 1;
    if (is_new && in_window(block->sent)) {
        if (call)
            call->arrived[way]++;
        meter->arrived++;
        add_sample(&meter->delay, at - block->sent);
    }
}

void listen_to(struct ear *ear, const uint8_t *audio, size_t size, uint64_t at)
{
    while (size) {
        size_t piece = FRAME - ear->filled < size ? FRAME - ear->filled : size;
        memcpy((uint8_t *)&ear->block + ear->filled, audio, piece);
        ear->filled += piece;
        audio += piece;
        size -= piece;
        if (ear->filled == FRAME) {
            ear->filled = 0;
            judge(ear, at);
        }
    }
}
