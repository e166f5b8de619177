// Rotates queries and keys by their positions and writes keys and values to their slots of the cache, in one launch.
#pragma once
#include "common.cuh"

// Keys of a block lie so that neighbouring lanes, which have neighbouring tokens, read neighbouring packs:
// [blocks, kv_heads, head / P, BLOCK, P] with P numbers in 16 bytes. Values are [blocks, kv_heads, BLOCK, head]. `head` is
// there what heads are padded to.
template <typename T>
__device__ __forceinline__ size_t key_place(int slot, int kv_head, int kv_heads, int head, int element) {
    constexpr int P = Pack<T>::SIZE;
    const size_t block = (size_t)(slot / BLOCK) * kv_heads + kv_head;
    return ((block * (head / P) + element / P) * BLOCK + slot % BLOCK) * P + element % P;
}

__device__ __forceinline__ size_t value_place(int slot, int kv_head, int kv_heads, int head, int element) {
    const size_t block = (size_t)(slot / BLOCK) * kv_heads + kv_head;
    return (block * BLOCK + slot % BLOCK) * head + element;
}

// Grid [tokens, heads + 2 * kv_heads]; a block takes one head. `q` [tokens, heads, head] is rotated in place; `k` and
// `v` are [tokens, kv_heads, head]. `cos` and `sin` are [.., dim / 2], of which a token has the row that `angles` names;
// element i turns with element i + dim / 2, the first `dim` of each head. `padded` is a multiple of the numbers in 16
// bytes; what is beyond `head` stays as it is.
template <typename T>
__device__ __forceinline__ void rotate_and_write(T *q, const T *k, const T *v, T *keys, T *values, const float *cos,
                                                 const float *sin, const uint32_t *angles, const uint32_t *slots,
                                                 int heads, int kv_heads, int head, int padded, int dim) {
    const int token = blockIdx.x, half = dim / 2, slot = slots[token];
    int index = blockIdx.y;
    const float *c = cos + (size_t)angles[token] * half, *s = sin + (size_t)angles[token] * half;
    const bool is_query = index < heads, is_value = index >= heads + kv_heads;
    const T *from;
    if (is_query) {
        from = q + ((size_t)token * heads + index) * head;
    } else {
        index = (index - heads) % kv_heads;
        from = (is_value ? v : k) + ((size_t)token * kv_heads + index) * head;
    }
    for (int element = threadIdx.x; element < head; element += blockDim.x) {
        // A thread has both elements of a pair, so that a query can be turned in place.
        if (is_value) {
            values[value_place(slot, index, kv_heads, padded, element)] = from[element];
            continue;
        }
        if (element >= half && element < dim)
            continue;
        const bool turns = element < half;
        const int other = element + half;
        float x = wide(from[element]), y = turns ? wide(from[other]) : 0.0f;
        if (turns) {
            const float cosine = c[element], sine = s[element], first = x;
            x = first * cosine - y * sine;
            y = y * cosine + first * sine;
        }
        if (is_query) {
            T *to = q + ((size_t)token * heads + index) * head;
            narrow(x, to[element]);
            if (turns)
                narrow(y, to[other]);
        } else {
            narrow(x, keys[key_place<T>(slot, index, kv_heads, padded, element)]);
            if (turns)
                narrow(y, keys[key_place<T>(slot, index, kv_heads, padded, other)]);
        }
    }
}
