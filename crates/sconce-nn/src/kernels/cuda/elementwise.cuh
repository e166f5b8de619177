// What is computed number by number.
#pragma once
#include "common.cuh"

#define EACH(i, count)                                                                                                 \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)

template <typename T> __device__ __forceinline__ void added(const T *x, const T *y, T *out, size_t count) {
    EACH(i, count)
        narrow(wide(x[i]) + wide(y[i]), out[i]);
}

// `bias` [width] is added to each row of `x`, in place.
template <typename T> __device__ __forceinline__ void biased(T *x, const float *bias, int width, size_t count) {
    EACH(i, count)
        narrow(wide(x[i]) + bias[i % width], x[i]);
}

template <typename T> __device__ __forceinline__ void scaled(const T *x, float factor, T *out, size_t count) {
    EACH(i, count)
        narrow(wide(x[i]) * factor, out[i]);
}

template <typename T> __device__ __forceinline__ void clipped(const T *x, float limit, T *out, size_t count) {
    EACH(i, count)
        narrow(fminf(fmaxf(wide(x[i]), -limit), limit), out[i]);
}

// Number i of `x` times number `i / run % period` of `weight`.
template <typename T>
__device__ __forceinline__ void multiplied(const T *x, const T *weight, size_t run, size_t period, T *out,
                                           size_t count) {
    EACH(i, count)
        narrow(wide(x[i]) * wide(weight[i / run % period]), out[i]);
}

template <typename T> __device__ __forceinline__ void widened(const T *x, float *out, size_t count) {
    EACH(i, count)
        out[i] = wide(x[i]);
}

template <typename T> __device__ __forceinline__ void narrowed(const float *x, T *out, size_t count) {
    EACH(i, count)
        narrow(x[i], out[i]);
}
