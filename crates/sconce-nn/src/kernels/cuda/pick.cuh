// What picking a token needs of a row of logits, so that the row itself stays on the GPU: its largest logits, and the
// logarithm of the sum that makes probabilities of them.
#pragma once
#include "common.cuh"

// Words of a row's answer before its candidates: state, their number, the logarithm of the sum.
constexpr int TOLD = 3;
// States of an answer: it is complete; a logit is no number, or plus infinity, or none is finite; there is no room for all.
constexpr uint32_t COMPLETE = 0, UNUSABLE = 1, CROWDED = 2;

__device__ __forceinline__ bool wins(float value, uint32_t index, float other, uint32_t than) {
    return value > other || (value == other && index < than);
}

// The largest of what all threads of a block bring, the first of equals; the same on all. Rooms have 32 entries.
__device__ __forceinline__ void largest_of_block(float &best, uint32_t &at, float *values, uint32_t *indices) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (int round = 0; round < 2; ++round) {
        for (int distance = 16; distance > 0; distance /= 2) {
            const float value = __shfl_xor_sync(ALL, best, distance);
            const uint32_t index = __shfl_xor_sync(ALL, at, distance);
            if (wins(value, index, best, at)) {
                best = value;
                at = index;
            }
        }
        if (round == 0) {
            if (lane == 0) {
                values[warp] = best;
                indices[warp] = at;
            }
            __syncthreads();
            best = lane < warps ? values[lane] : -INFINITY;
            at = lane < warps ? indices[lane] : 0xffffffffu;
        }
    }
}

// Where the count of a histogram of 256 bins reaches `wanted`: that bin, and what the bins before it hold. `bin` is 256
// where all hold less. For one warp; the same on all its lanes.
__device__ __forceinline__ void reached(const uint32_t *bins, uint32_t wanted, uint32_t &bin, uint32_t &before) {
    const int lane = threadIdx.x % 32;
    uint32_t own = 0, earlier = 0, all = 0;
    for (int i = 0; i < 8; ++i)
        own += bins[lane * 8 + i];
    for (int other = 0; other < 32; ++other) {
        const uint32_t count = __shfl_sync(ALL, own, other);
        earlier += other < lane ? count : 0;
        all += count;
    }
    uint32_t found = 256, held = all;
    if (earlier < wanted && earlier + own >= wanted) {
        held = earlier;
        for (found = lane * 8; held + bins[found] < wanted; ++found)
            held += bins[found];
    }
    // One lane has found it, or none.
    bin = 256;
    before = all;
    for (int other = 0; other < 32; ++other) {
        const uint32_t its = __shfl_sync(ALL, found, other), what = __shfl_sync(ALL, held, other);
        if (its < 256) {
            bin = its;
            before = what;
        }
    }
}

// Grid [asked], 1024 threads or fewer. Of row `rows[i]` of `logits` [.., vocab] the `counts[i]` largest, and whatever
// equals the last of them or lies little below; in no order, as many as there is `room` for. Where one is asked for it is
// the first of equals. `told` is [asked, TOLD + 2 * room]: a head, ids, logits as bits. Minus infinity is never told.
//
// Distances from the largest logit are counted in bins, each a quarter wide and then a 256th of that: logits lie within
// some tens of each other, so bins have few entries each, other than those of their bits would.
template <typename T>
__device__ __forceinline__ void best_of_row(const T *logits, const uint32_t *rows, const uint32_t *counts,
                                            uint32_t vocab, uint32_t room, uint32_t *told) {
    SHARED float values[32];
    SHARED uint32_t indices[32];
    SHARED uint32_t bins[256];
    SHARED uint32_t found[2];
    const T *row = logits + (size_t)rows[blockIdx.x] * vocab;
    uint32_t *head = told + (size_t)blockIdx.x * (TOLD + 2 * room), *ids = head + TOLD, *bits = ids + room;
    float best = -INFINITY;
    uint32_t at = 0xffffffffu;
    bool bad = false;
    for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x) {
        const float logit = wide(row[i]);
        bad |= !(logit < INFINITY);
        if (wins(logit, i, best, at)) {
            best = logit;
            at = i;
        }
    }
    bad = __syncthreads_or(bad);
    largest_of_block(best, at, values, indices);
    if (bad || best == -INFINITY) { // the same for all threads of the block
        if (threadIdx.x == 0)
            head[0] = UNUSABLE;
        return;
    }
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x)
        sum += expf(wide(row[i]) - best);
    sum = sum_of_block(sum, values);
    if (threadIdx.x == 0)
        head[2] = bits_of(logf(sum));
    uint32_t left = counts[blockIdx.x];
    if (left == 1) {
        if (threadIdx.x == 0) {
            head[0] = COMPLETE;
            head[1] = 1;
            ids[0] = at;
            bits[0] = bits_of(best);
        }
        return;
    }
    // Told is what lies at a place below `end`, counted from `base` in parts of one `scale`th.
    float base = 0.0f, scale = 4.0f, end = INFINITY;
    for (uint32_t sure = 0, level = 0; level < 3; ++level) {
        for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x)
            bins[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x) {
            const float place = (best - wide(row[i]) - base) * scale;
            if (place >= 0.0f && place < 256.0f)
                atomicAdd(&bins[(uint32_t)place], 1u);
        }
        __syncthreads();
        uint32_t bin = 0, before = 0;
        if (threadIdx.x < 32) {
            reached(bins, left, bin, before);
            if (threadIdx.x == 0) {
                found[0] = bin;
                found[1] = before;
            }
        }
        __syncthreads();
        bin = found[0];
        before = found[1];
        if (bin == 256)
            break; // at the first level only: all that is finite is told, if there is room
        end = (float)bin + 1.0f;
        if (sure + before + bins[bin] <= room || level == 2)
            break;
        sure += before;
        left -= before;
        base += (float)bin / scale;
        scale *= 256.0f;
        end = INFINITY;
        __syncthreads(); // bins are still read
    }
    __syncthreads();
    if (threadIdx.x == 0)
        found[0] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x) {
        const float logit = wide(row[i]);
        if (logit > -INFINITY && (end == INFINITY || (best - logit - base) * scale < end)) {
            const uint32_t place = atomicAdd(&found[0], 1u);
            if (place < room) {
                ids[place] = i;
                bits[place] = bits_of(logit);
            }
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        head[0] = found[0] > room ? CROWDED : COMPLETE;
        head[1] = found[0];
    }
}
