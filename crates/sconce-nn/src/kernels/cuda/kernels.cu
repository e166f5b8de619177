// The kernels by name, for each type of numbers, size of head and number of query heads that a block takes at once:
// `attend_bf16_128_4`. nvcc compiles them for GPUs; `host/driver.cpp` for the processor, with EXPORT as a table of them.
#include "elementwise.cuh"
#include "gate.cuh"
#include "norm.cuh"
#include "paged.cuh"
#include "pick.cuh"
#include "prompt.cuh"
#include "rows.cuh"

#ifndef EXPORT
#define EXPORT(NAME, PARAMETERS, ...)                                                                                  \
    extern "C" __global__ void NAME PARAMETERS { __VA_ARGS__; }
#define EXPORT_BOUNDED(NAME, THREADS, PARAMETERS, ...)                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME PARAMETERS { __VA_ARGS__; }
#endif

#define ATTEND(T, HEAD, GROUP)                                                                                         \
    EXPORT_BOUNDED(attend_##T##_##HEAD##_##GROUP, WARPS * 32,                                                          \
                   (const T *q, const T *keys, const T *values, const uint32_t *tables, const uint32_t *rows,          \
                    const uint32_t *positions, Scoring how, int heads, int kv_heads, int head, int most,               \
                    float *largest, float *total, float *sums),                                                        \
                   attend<T, HEAD, GROUP>(q, keys, values, tables, rows, positions, how, heads, kv_heads, head, most,  \
                                          largest, total, sums))

#define ATTEND_GROUPS(T, HEAD) ATTEND(T, HEAD, 1) ATTEND(T, HEAD, 2) ATTEND(T, HEAD, 4) ATTEND(T, HEAD, 8)

#define ATTEND_PROMPT(T, HEAD)                                                                                         \
    EXPORT_BOUNDED(attend_prompt_##T##_##HEAD, WARPS * 32,                                                             \
                   (const T *q, const T *keys, const T *values, const uint32_t *tables, const uint32_t *rows,          \
                    const uint32_t *positions, const uint32_t *tiles, int count, Scoring how, int heads, int kv_heads, \
                    int head, int most, T *out),                                                                       \
                   attend_prompt<T, HEAD>(q, keys, values, tables, rows, positions, tiles, count, how, heads,          \
                                          kv_heads, head, most, out))

#define OF_TWO_BYTES(T)                                                                                                \
    ATTEND_PROMPT(T, 16)                                                                                               \
    ATTEND_PROMPT(T, 32)                                                                                               \
    ATTEND_PROMPT(T, 64)                                                                                               \
    ATTEND_PROMPT(T, 80)                                                                                               \
    ATTEND_PROMPT(T, 96)                                                                                               \
    ATTEND_PROMPT(T, 112)                                                                                              \
    ATTEND_PROMPT(T, 128)                                                                                              \
    ATTEND_PROMPT(T, 160)                                                                                              \
    ATTEND_PROMPT(T, 192)                                                                                              \
    ATTEND_PROMPT(T, 256)

#define OF_TYPE(T)                                                                                                     \
    ATTEND_GROUPS(T, 16)                                                                                               \
    ATTEND_GROUPS(T, 32)                                                                                               \
    ATTEND_GROUPS(T, 64)                                                                                               \
    ATTEND_GROUPS(T, 80)                                                                                               \
    ATTEND_GROUPS(T, 96)                                                                                               \
    ATTEND_GROUPS(T, 112)                                                                                              \
    ATTEND_GROUPS(T, 128)                                                                                              \
    ATTEND_GROUPS(T, 160)                                                                                              \
    ATTEND_GROUPS(T, 192)                                                                                              \
    ATTEND_GROUPS(T, 256)                                                                                              \
    EXPORT(join_##T,                                                                                                   \
           (const float *largest, const float *total, const float *sums, const uint32_t *positions, uint32_t window,   \
            int splits, int heads, int head, int padded, T *out),                                                      \
           join<T>(largest, total, sums, positions, window, splits, heads, head, padded, out))                         \
    EXPORT(rotate_and_write_##T,                                                                                       \
           (T * q, const T *k, const T *v, T *keys, T *values, const float *cos, const float *sin,                     \
            const uint32_t *angles, const uint32_t *slots, int heads, int kv_heads, int head, int padded, int dim),    \
           rotate_and_write<T>(q, k, v, keys, values, cos, sin, angles, slots, heads, kv_heads, head, padded, dim))    \
    EXPORT(add_and_normalise_##T,                                                                                      \
           (const T *x, const T *y, const float *weight, const float *bias, float eps, int centred, T *sum, T *out,    \
            int width),                                                                                                \
           add_and_normalise<T>(x, y, weight, bias, eps, centred != 0, sum, out, width))                               \
    EXPORT(gated_##T, (const T *gate, const T *up, int act, T *out, size_t count), gated<T>(gate, up, act, out, count)) \
    EXPORT(gather_##T, (const T *table, const uint32_t *ids, uint32_t first, uint32_t rows, T *out, int width),        \
           gather<T>(table, ids, first, rows, out, width))                                                             \
    EXPORT(columns_##T, (const T *from, int from_width, int start, T *to, int to_width),                               \
           columns<T>(from, from_width, start, to, to_width))                                                          \
    EXPORT(side_by_side_##T, (const T *from, T *to, int width), side_by_side<T>(from, to, width))                      \
    EXPORT(add_to_rows_##T, (const T *from, const uint32_t *rows, const float *weights, float *sums, int width),       \
           add_to_rows<T>(from, rows, weights, sums, width))                                                           \
    EXPORT(added_##T, (const T *x, const T *y, T *out, size_t count), added<T>(x, y, out, count))                      \
    EXPORT(biased_##T, (T * x, const float *bias, int width, size_t count), biased<T>(x, bias, width, count))          \
    EXPORT(scaled_##T, (const T *x, float factor, T *out, size_t count), scaled<T>(x, factor, out, count))             \
    EXPORT(clipped_##T, (const T *x, float limit, T *out, size_t count), clipped<T>(x, limit, out, count))             \
    EXPORT(multiplied_##T, (const T *x, const T *weight, size_t run, size_t period, T *out, size_t count),             \
           multiplied<T>(x, weight, run, period, out, count))                                                          \
    EXPORT(widened_##T, (const T *x, float *out, size_t count), widened<T>(x, out, count))                             \
    EXPORT(narrowed_##T, (const float *x, T *out, size_t count), narrowed<T>(x, out, count))                           \
    EXPORT_BOUNDED(best_of_row_##T, 1024,                                                                              \
                   (const T *logits, const uint32_t *rows, const uint32_t *counts, uint32_t vocab, uint32_t room,      \
                    uint32_t *told),                                                                                   \
                   best_of_row<T>(logits, rows, counts, vocab, room, told))

OF_TYPE(float)
OF_TYPE(f16)
OF_TYPE(bf16)
OF_TWO_BYTES(f16)
OF_TWO_BYTES(bf16)
