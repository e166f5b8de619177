// Rows of matrices: looked up, cut, joined, added to others.
#pragma once
#include "common.cuh"

// Grid [ids]. Row `ids[i] - first` of `table` [count, width]; zeros where there is no such row, as for the ids of other
// ranks.
template <typename T>
__device__ __forceinline__ void gather(const T *table, const uint32_t *ids, uint32_t first, uint32_t count, T *out,
                                       int width) {
    const uint32_t id = ids[blockIdx.x];
    const bool is_there = id >= first && id - first < count;
    const T *from = table + (is_there ? (size_t)(id - first) * width : 0);
    T *to = out + (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        if (is_there)
            to[i] = from[i];
        else
            narrow(0.0f, to[i]);
    }
}

// Grid [rows]. Columns `start` to `start + to_width` of rows of `from_width` numbers; zeros beyond the last one.
template <typename T>
__device__ __forceinline__ void columns(const T *from, int from_width, int start, T *to, int to_width) {
    const size_t row = blockIdx.x;
    for (int i = threadIdx.x; i < to_width; i += blockDim.x) {
        if (start + i < from_width)
            to[row * to_width + i] = from[row * from_width + start + i];
        else
            narrow(0.0f, to[row * to_width + i]);
    }
}

// Grid [rows, parts]. Parts [parts, rows, width] side by side: [rows, parts * width].
template <typename T> __device__ __forceinline__ void side_by_side(const T *from, T *to, int width) {
    const size_t row = blockIdx.x, part = blockIdx.y, rows = gridDim.x, parts = gridDim.y;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        to[(row * parts + part) * width + i] = from[(part * rows + row) * width + i];
}

// Grid [summands]. Adds row i of `from`, times `weights[i]`, to row `rows[i]` of `sums`; no two name the same row.
template <typename T>
__device__ __forceinline__ void add_to_rows(const T *from, const uint32_t *rows, const float *weights, float *sums,
                                            int width) {
    const T *summand = from + (size_t)blockIdx.x * width;
    float *sum = sums + (size_t)rows[blockIdx.x] * width;
    const float weight = weights[blockIdx.x];
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        sum[i] += weight * wide(summand[i]);
}
