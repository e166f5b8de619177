// Causal attention of prompts on tensor cores, for numbers of two bytes: a warp takes sixteen queries of one head, which
// follow each other in a sequence, over the cache blocks from the first that one of them sees to the last.
//
// Each query has a row of every product to itself, its own maximum and its own sum, and blocks come in their order, so
// its bits do not depend on the queries beside it: what lies outside of what it sees changes nothing, not even a bit.
// They are not those of `attend`, which takes one query and adds up otherwise.
#pragma once
#include "paged.cuh"

// Queries of a warp.
constexpr int QUERIES = 16;

#ifndef HOST_EMULATION
__device__ __forceinline__ uint32_t half_word(f16 x) { return __half_as_ushort(x); }
__device__ __forceinline__ uint32_t half_word(bf16 x) { return __bfloat16_as_ushort(x); }

// `sums` [16, 8] += `a` [16, 16] times `b` [16, 8], spread over a warp as PTX says of mma.m16n8k16.
__device__ __forceinline__ void multiply_tiles(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap(); // these kernels are not launched there
#endif
}
__device__ __forceinline__ void multiply_tiles(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();
#endif
}
#endif

template <typename T> __device__ __forceinline__ uint32_t pair_of(float low, float high) {
    T first, second;
    narrow(low, first);
    narrow(high, second);
    return half_word(first) | half_word(second) << 16;
}

// What one of the sixteen queries has found so far.
struct Found {
    uint32_t position, begin;
    bool is_there;
    float most = -INFINITY, total = 0.0f;

    __device__ __forceinline__ Found(uint32_t position, uint32_t window, bool is_there)
        : position(position), begin(window && position + 1 > window ? position + 1 - window : 0), is_there(is_there) {}

    __device__ __forceinline__ float score(float product, uint32_t key, const Scoring &how, float slope) const {
        float value = product * how.scale;
        if (how.softcap != 0.0f)
            value = how.softcap * tanhf(value / how.softcap);
        if (how.slopes)
            value += alibi(how, slope, key, position);
        // What lies in slots that are not seen may be no number.
        return is_there && key >= begin && key <= position ? value : -INFINITY;
    }

    // Makes weights of a block's scores, of which a lane has eight and its three neighbours the others; what earlier sums
    // are multiplied by.
    __device__ __forceinline__ float take(float (&scores)[8]) {
        float now = most;
        for (float score : scores)
            now = fmaxf(now, score);
        now = fmaxf(now, __shfl_xor_sync(ALL, now, 1));
        now = fmaxf(now, __shfl_xor_sync(ALL, now, 2));
        if (now == -INFINITY) { // nothing is seen yet
            for (float &score : scores)
                score = 0.0f;
            return 1.0f;
        }
        const float before = expf(most - now);
        float sum = 0.0f;
        for (float &score : scores) {
            score = expf(score - now);
            sum += score;
        }
        most = now;
        total = total * before + sum;
        return before;
    }

    __device__ __forceinline__ float all() const {
        const float half = total + __shfl_xor_sync(ALL, total, 1);
        return half + __shfl_xor_sync(ALL, half, 2);
    }
};

// Grid [tiles * group / WARPS, kv_heads], WARPS warps, each for itself. `tiles` [count, 2] are first tokens and numbers of
// tokens of `q` [tokens, heads, head], at most QUERIES, which follow each other in the sequence of their row. Otherwise as
// `attend`, but for `out` [tokens, heads, head], which is complete.
//
// A lane has rows `lane / 4` and eight below of each product, and of a block's scores for each of them columns
// `8 * part + 2 * (lane % 4)` and the next one.
template <typename T, int HEAD>
__device__ __forceinline__ void attend_prompt(const T *q, const T *keys, const T *values, const uint32_t *tables,
                                              const uint32_t *rows, const uint32_t *positions, const uint32_t *tiles,
                                              int count, Scoring how, int heads, int kv_heads, int head_dim, int most,
                                              T *out) {
    static_assert(sizeof(T) == 2 && HEAD % 16 == 0, "tiles of sixteen numbers of two bytes");
    constexpr int P = Pack<T>::SIZE, DEEP = HEAD / 16;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = lane / 4, side = lane % 4;
    const int group = heads / kv_heads, kv_head = blockIdx.y, item = blockIdx.x * WARPS + warp;
    if (item >= count * group)
        return; // the same for all lanes of the warp
    const int head = kv_head * group + item % group;
    const uint32_t first = tiles[2 * (item / group)], number = tiles[2 * (item / group) + 1];
    const uint32_t position = positions[first], end = position + number;
    const float slope = how.slopes ? how.slopes[head] : 0.0f;
    Found low(position + own, how.window, own < (int)number), high(position + own + 8, how.window, own + 8 < (int)number);

    const auto query = [&](int row, int element) -> uint32_t {
        if (row >= (int)number || element >= head_dim)
            return 0;
        return half_word(q[((size_t)(first + row) * heads + head) * head_dim + element]);
    };
    const auto queries = [&](int row, int element) { return query(row, element) | query(row, element + 1) << 16; };
    uint32_t a[DEEP][4];
    for (int part = 0; part < DEEP; ++part) {
        const int element = 16 * part + 2 * side;
        a[part][0] = queries(own, element);
        a[part][1] = queries(own + 8, element);
        a[part][2] = queries(own, element + 8);
        a[part][3] = queries(own + 8, element + 8);
    }
    // Elements `16 * part + 4 * side`: even ones of two columns each, and odd ones.
    float even[DEEP][4], odd[DEEP][4];
    for (int part = 0; part < DEEP; ++part)
        for (int i = 0; i < 4; ++i)
            even[part][i] = odd[part][i] = 0.0f;

    const uint32_t *table = tables + (size_t)rows[first] * most;
    const uint32_t from = how.window && position + 1 > how.window ? position + 1 - how.window : 0;
    for (uint32_t index = from / BLOCK; index * BLOCK < end; ++index) {
        const size_t block = ((size_t)table[index] * kv_heads + kv_head) * HEAD * BLOCK;
        float products[4][4];
        for (int tile = 0; tile < 4; ++tile) {
            for (int i = 0; i < 4; ++i)
                products[tile][i] = 0.0f;
            const T *of_key = keys + block + (8 * tile + own) * P + 2 * side;
            for (int part = 0; part < DEEP; ++part) {
                const uint32_t b[2] = {*(const uint32_t *)(of_key + 2 * part * BLOCK * P),
                                       *(const uint32_t *)(of_key + (2 * part + 1) * BLOCK * P)};
                multiply_tiles(products[tile], a[part], b, T());
            }
        }
        float of_low[8], of_high[8];
        for (int i = 0; i < 8; ++i) {
            const uint32_t key = index * BLOCK + 8 * (i / 2) + 2 * side + i % 2;
            of_low[i] = low.score(products[i / 2][i % 2], key, how, slope);
            of_high[i] = high.score(products[i / 2][2 + i % 2], key, how, slope);
        }
        const float less = low.take(of_low), fewer = high.take(of_high);
        for (int part = 0; part < DEEP; ++part)
            for (int i = 0; i < 4; ++i) {
                even[part][i] *= i < 2 ? less : fewer;
                odd[part][i] *= i < 2 ? less : fewer;
            }
        for (int half = 0; half < 2; ++half) {
            const int of = 4 * half;
            const uint32_t weights[4] = {
                pair_of<T>(of_low[of], of_low[of + 1]), pair_of<T>(of_high[of], of_high[of + 1]),
                pair_of<T>(of_low[of + 2], of_low[of + 3]), pair_of<T>(of_high[of + 2], of_high[of + 3])};
            const int offset = 16 * half + 2 * side;
            const auto value = [&](int key, int part) -> uint32_t {
                // Beyond the last query's own there may be anything, which no weight of 0 makes a 0.
                if (index * BLOCK + key >= end)
                    return 0;
                return *(const uint32_t *)(values + block + key * HEAD + 16 * part + 2 * own);
            };
            for (int part = 0; part < DEEP; ++part) {
                const uint32_t w[4] = {value(offset, part), value(offset + 1, part), value(offset + 8, part),
                                       value(offset + 9, part)};
                const uint32_t first_of[2] = {(w[0] & 0xffff) | w[1] << 16, (w[2] & 0xffff) | w[3] << 16};
                const uint32_t second_of[2] = {w[0] >> 16 | (w[1] & 0xffff0000), w[2] >> 16 | (w[3] & 0xffff0000)};
                multiply_tiles(even[part], weights, first_of, T());
                multiply_tiles(odd[part], weights, second_of, T());
            }
        }
    }
    const float total[2] = {low.all(), high.all()};
    for (int row = 0; row < 2; ++row) {
        if (own + 8 * row >= (int)number)
            continue;
        T *to = out + ((size_t)(first + own + 8 * row) * heads + head) * head_dim;
        for (int part = 0; part < DEEP; ++part)
            for (int i = 0; i < 4; ++i) {
                const int element = 16 * part + 4 * side + i;
                const float sum = (i % 2 ? odd : even)[part][2 * row + i / 2];
                if (element < head_dim)
                    narrow(sum / total[row], to[element]);
            }
    }
}
