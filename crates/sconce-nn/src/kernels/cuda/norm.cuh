// The sum of a row and its residual, and the norm of that sum, in one launch.
#pragma once
#include "common.cuh"

// Grid [rows]. `sum` becomes x + y (y may be null: sum is then not written), `out` its norm: root mean square, or, with
// `centred`, around the mean. `bias` may be null. A row's sums have one order: each thread its elements by distance of
// the block's size, then the threads as a tree.
template <typename T>
__device__ __forceinline__ void add_and_normalise(const T *x, const T *y, const float *weight, const float *bias,
                                                  float eps, bool centred, T *sum, T *out, int width) {
    SHARED float room[32];
    const size_t row = (size_t)blockIdx.x * width;
    const T *from = x + row;
    float total = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float value = wide(from[i]);
        if (y) {
            // What is normalised is what the next layer adds to: the rounded sum.
            narrow(value + wide(y[row + i]), sum[row + i]);
            value = wide(sum[row + i]);
        }
        total += value;
    }
    if (y)
        from = sum + row;
    const float mean = centred ? sum_of_block(total, room) / width : 0.0f;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float apart = wide(from[i]) - mean;
        squares += apart * apart;
    }
    const float factor = 1.0f / sqrtf(sum_of_block(squares, room) / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float value = (wide(from[i]) - mean) * factor * weight[i];
        narrow(bias ? value + bias[i] : value, out[row + i]);
    }
}
