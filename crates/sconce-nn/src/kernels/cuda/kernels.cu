// The kernels by name, for each type of numbers, size of head and number of query heads that a block takes at once:
// `attend_bf16_128_4`. `make cuda-kernels` compiles them.
#include "gate.cuh"
#include "norm.cuh"
#include "paged.cuh"
#include "pick.cuh"

#define ATTEND(T, HEAD, GROUP)                                                                                         \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                           \
        attend_##T##_##HEAD##_##GROUP(const T *q, const T *keys, const T *values, const uint32_t *tables,              \
                                      const uint32_t *rows, const uint32_t *positions, Scoring how, int heads,         \
                                      int kv_heads, int most, float *largest, float *total, float *sums) {             \
        attend<T, HEAD, GROUP>(q, keys, values, tables, rows, positions, how, heads, kv_heads, most, largest, total,   \
                               sums);                                                                                  \
    }

#define ATTEND_GROUPS(T, HEAD) ATTEND(T, HEAD, 1) ATTEND(T, HEAD, 2) ATTEND(T, HEAD, 4) ATTEND(T, HEAD, 8)

#define OF_TYPE(T)                                                                                                     \
    ATTEND_GROUPS(T, 64)                                                                                               \
    ATTEND_GROUPS(T, 80)                                                                                               \
    ATTEND_GROUPS(T, 96)                                                                                               \
    ATTEND_GROUPS(T, 112)                                                                                              \
    ATTEND_GROUPS(T, 128)                                                                                              \
    ATTEND_GROUPS(T, 160)                                                                                              \
    ATTEND_GROUPS(T, 192)                                                                                              \
    ATTEND_GROUPS(T, 256)                                                                                              \
    extern "C" __global__ void join_##T(const float *largest, const float *total, const float *sums,                   \
                                        const uint32_t *positions, uint32_t window, int splits, int heads, int head,   \
                                        T *out) {                                                                      \
        join<T>(largest, total, sums, positions, window, splits, heads, head, out);                                    \
    }                                                                                                                  \
    extern "C" __global__ void rotate_and_write_##T(                                                                   \
        T *q, const T *k, const T *v, T *keys, T *values, const float *cos, const float *sin,                          \
        const uint32_t *positions, const uint32_t *slots, int heads, int kv_heads, int head, int dim) {                \
        rotate_and_write<T>(q, k, v, keys, values, cos, sin, positions, slots, heads, kv_heads, head, dim);            \
    }                                                                                                                  \
    extern "C" __global__ void add_and_normalise_##T(const T *x, const T *y, const float *weight, const float *bias,   \
                                                     float eps, bool centred, T *sum, T *out, int width) {             \
        add_and_normalise<T>(x, y, weight, bias, eps, centred, sum, out, width);                                       \
    }                                                                                                                  \
    extern "C" __global__ void gated_##T(const T *gate, const T *up, int act, T *out, size_t count) {                  \
        gated<T>(gate, up, act, out, count);                                                                           \
    }

OF_TYPE(float)
OF_TYPE(f16)
OF_TYPE(bf16)

extern "C" __global__ void pick_largest_f32(const float *logits, uint32_t vocab, uint32_t *picked) {
    pick_largest(logits, vocab, picked);
}
