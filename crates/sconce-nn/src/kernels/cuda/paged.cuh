// Causal attention over the paged cache, for prompts and single tokens alike: every query of every kv head has blocks
// of its own, one for each SPLIT tokens of its sequence, and a second launch joins what they found, in their order.
// Where a sequence is cut depends on positions only, so a token gets the same bits whether it is computed alone, in a
// chunk or with the whole prompt.
//
// A warp takes a cache block at a time: first a lane has a token, of whose key it reads 16 bytes at a time, beside its
// neighbours'; then a lane has some elements of the head, and the weights go round.
#pragma once
#include "rotate.cuh"

constexpr int WARPS = 4;
constexpr int SPLIT = 512;

// How scores are made; as `Attend` in attention/mod.rs. `window` and `softcap` are 0 where there is none.
struct Scoring {
    float scale;
    uint32_t window;
    float softcap;
    const float *slopes; // [heads] or null
    int rounded;         // whether biases are those of Falcon, made in bf16 and multiplied by `factor`
    float factor;
};

__device__ __forceinline__ float alibi(const Scoring &how, float slope, uint32_t key, uint32_t query) {
    if (!how.rounded)
        return slope * ((float)key - (float)query);
    bf16 position, narrowed, product;
    narrow((float)key, position);
    narrow(slope, narrowed);
    narrow(wide(narrowed) * wide(position), product);
    return how.factor * wide(product);
}

// Grid [tokens, kv_heads * tiles, splits], WARPS warps; a tile is GROUP query heads that share the kv head, of which
// the last may have fewer. `q` is [tokens, heads, head] with heads of at most HEAD numbers, to which the cache pads them
// with zeros; `tables` [rows, most] names the cache blocks of each row;
// `rows` and `positions` are of the tokens. Writes for each token, split and head the largest score, the sum of
// exponentials, and the weighted values, not yet divided: `largest` and `total` [tokens, splits, heads], `sums`
// [tokens, splits, heads, HEAD]. Splits beyond a token's position or before its window are not written.
template <typename T, int HEAD, int GROUP>
__device__ __forceinline__ void attend(const T *q, const T *keys, const T *values, const uint32_t *tables,
                                       const uint32_t *rows, const uint32_t *positions, Scoring how, int heads,
                                       int kv_heads, int head_dim, int most, float *largest, float *total, float *sums) {
    constexpr int P = Pack<T>::SIZE, OWN = (HEAD + 31) / 32;
    SHARED float queries[GROUP][HEAD];
    SHARED float ends[WARPS][GROUP][2];
    SHARED float parts[WARPS][GROUP][HEAD];
    const int token = blockIdx.x, split = blockIdx.z, splits = gridDim.z;
    const int group = heads / kv_heads, tiles = gridDim.y / kv_heads;
    const int kv_head = blockIdx.y / tiles, tile = blockIdx.y % tiles;
    const int first_head = kv_head * group + tile * GROUP, count = min(GROUP, group - tile * GROUP);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t position = positions[token];
    const uint32_t begin = how.window && position + 1 > how.window ? position + 1 - how.window : 0;
    const uint32_t from = max(begin, (uint32_t)split * SPLIT), to = min(position + 1, ((uint32_t)split + 1) * SPLIT);
    if (from >= to)
        return; // the same for all threads of the block
    for (int i = threadIdx.x; i < GROUP * HEAD; i += blockDim.x) {
        const int head = i / HEAD, element = i % HEAD;
        const bool is_there = head < count && element < head_dim;
        const size_t place = ((size_t)token * heads + first_head + head) * head_dim + element;
        queries[head][element] = is_there ? wide(q[place]) * how.scale : 0.0f;
    }
    __syncthreads();
    float most_of[GROUP], total_of[GROUP], sum[GROUP][OWN];
    for (int head = 0; head < GROUP; ++head) {
        most_of[head] = -INFINITY;
        total_of[head] = 0.0f;
        for (int own = 0; own < OWN; ++own)
            sum[head][own] = 0.0f;
    }
    const uint32_t *table = tables + (size_t)rows[token] * most;
    for (uint32_t index = split * (SPLIT / BLOCK) + warp; index * BLOCK < to; index += WARPS) {
        if ((index + 1) * BLOCK <= from)
            continue; // the same for all lanes of the warp
        const uint32_t key = index * BLOCK + lane;
        const bool seen = key >= from && key < to;
        const size_t block = (size_t)table[index] * kv_heads + kv_head;
        float score[GROUP];
        for (int head = 0; head < GROUP; ++head)
            score[head] = 0.0f;
        const Pack<T> *packs = (const Pack<T> *)(keys + block * HEAD * BLOCK) + lane;
        for (int pack = 0; pack < HEAD / P; ++pack) {
            const Pack<T> numbers = packs[pack * BLOCK];
            for (int i = 0; i < P; ++i) {
                const float number = wide(numbers.numbers[i]);
                for (int head = 0; head < GROUP; ++head)
                    score[head] += queries[head][pack * P + i] * number;
            }
        }
        for (int head = 0; head < GROUP; ++head) {
            float value = score[head];
            if (how.softcap != 0.0f)
                value = how.softcap * tanhf(value / how.softcap);
            if (how.slopes && head < count)
                value += alibi(how, how.slopes[first_head + head], key, position);
            // What lies in slots that are not seen may be no number.
            value = seen ? value : -INFINITY;
            const float now = fmaxf(most_of[head], largest_of_warp(value));
            const float before = expf(most_of[head] - now), weight = expf(value - now);
            most_of[head] = now;
            total_of[head] = total_of[head] * before + sum_of_warp(weight);
            score[head] = weight;
            for (int own = 0; own < OWN; ++own)
                sum[head][own] *= before;
        }
        const T *rows_of_values = values + block * HEAD * BLOCK;
        const int first = max((int)from - (int)(index * BLOCK), 0), last = min(to - index * BLOCK, (uint32_t)BLOCK);
        for (int offset = first; offset < last; ++offset) {
            float number[OWN];
            for (int own = 0; own < OWN; ++own) {
                const int element = own * 32 + lane;
                number[own] = element < HEAD ? wide(rows_of_values[offset * HEAD + element]) : 0.0f;
            }
            for (int head = 0; head < GROUP; ++head) {
                const float weight = __shfl_sync(ALL, score[head], offset);
                for (int own = 0; own < OWN; ++own)
                    sum[head][own] += weight * number[own];
            }
        }
    }
    for (int head = 0; head < GROUP; ++head) {
        if (lane == 0) {
            ends[warp][head][0] = most_of[head];
            ends[warp][head][1] = total_of[head];
        }
        for (int own = 0; own < OWN; ++own)
            if (own * 32 + lane < HEAD)
                parts[warp][head][own * 32 + lane] = sum[head][own];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * HEAD; i += blockDim.x) {
        const int head = i / HEAD, element = i % HEAD;
        float most_seen = -INFINITY, all = 0.0f, value = 0.0f;
        for (int other = 0; other < WARPS; ++other)
            most_seen = fmaxf(most_seen, ends[other][head][0]);
        for (int other = 0; other < WARPS; ++other) {
            // A warp without a block has no maximum, and exp(-inf) is 0.
            const float factor = expf(ends[other][head][0] - most_seen);
            all += ends[other][head][1] * factor;
            value += parts[other][head][element] * factor;
        }
        const size_t place = ((size_t)token * splits + split) * heads + first_head + head;
        sums[place * HEAD + element] = value;
        if (element == 0) {
            largest[place] = most_seen;
            total[place] = all;
        }
    }
}

// Grid [tokens, heads]: joins the splits of a token in their order, those from its window's beginning to its position.
// `out` is [tokens, heads, head], `sums` has heads of `padded` numbers.
template <typename T>
__device__ __forceinline__ void join(const float *largest, const float *total, const float *sums,
                                     const uint32_t *positions, uint32_t window, int splits, int heads, int head,
                                     int padded, T *out) {
    const int token = blockIdx.x, index = blockIdx.y;
    const uint32_t position = positions[token];
    const int first = window && position + 1 > window ? (position + 1 - window) / SPLIT : 0, last = position / SPLIT;
    float most = -INFINITY;
    for (int split = first; split <= last; ++split)
        most = fmaxf(most, largest[((size_t)token * splits + split) * heads + index]);
    for (int element = threadIdx.x; element < head; element += blockDim.x) {
        float all = 0.0f, value = 0.0f;
        for (int split = first; split <= last; ++split) {
            const size_t place = ((size_t)token * splits + split) * heads + index;
            const float factor = expf(largest[place] - most);
            all += total[place] * factor;
            value += sums[place * padded + element] * factor;
        }
        narrow(value / all, out[((size_t)token * heads + index) * head + element]);
    }
}
