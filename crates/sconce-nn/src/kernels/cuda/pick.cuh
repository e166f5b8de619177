// The largest logit of each row: what greedy decoding needs of them.
#pragma once
#include "common.cuh"

__device__ __forceinline__ bool wins(float value, uint32_t index, float other, uint32_t than) {
    return value > other || (value == other && index < than);
}

// Grid [rows]. `picked` is the index of the largest of `vocab` logits, the first of equals; a row of which a logit is
// no number picks `vocab`, so that it is noticed.
__device__ __forceinline__ void pick_largest(const float *logits, uint32_t vocab, uint32_t *picked) {
    SHARED float values[32];
    SHARED uint32_t indices[32];
    const float *row = logits + (size_t)blockIdx.x * vocab;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    float best = -INFINITY;
    uint32_t at = 0xffffffffu;
    bool bad = false;
    for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x) {
        bad |= isnan(row[i]);
        if (wins(row[i], i, best, at)) {
            best = row[i];
            at = i;
        }
    }
    if (bad) { // larger than any number, and at no index
        best = INFINITY;
        at = 0;
    }
    bad = __syncthreads_or(bad);
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
    if (threadIdx.x == 0)
        picked[blockIdx.x] = bad || at >= vocab ? vocab : at;
}
