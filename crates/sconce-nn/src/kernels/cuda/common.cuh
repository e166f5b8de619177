// What all kernels share: number types, reductions of a block in a fixed order, the block size of the cache.
//
// Everything is computed in f32, whatever the numbers are kept as. No kernel uses atomics on floats and no sum depends
// on the size of the grid, so the bits of a row do not depend on the rows beside it.
#pragma once

#ifdef HOST_EMULATION
#include "host/emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#define SHARED __shared__
typedef __half f16;
typedef __nv_bfloat16 bf16;
__device__ __forceinline__ float wide(f16 x) { return __half2float(x); }
__device__ __forceinline__ float wide(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void narrow(float x, f16 &to) { to = __float2half_rn(x); }
__device__ __forceinline__ void narrow(float x, bf16 &to) { to = __float2bfloat16_rn(x); }
__device__ __forceinline__ uint32_t bits_of(float x) { return __float_as_uint(x); }
#endif

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ void narrow(float x, float &to) { to = x; }

// Tokens in a block of the cache, and lanes of a warp: a lane has a token.
constexpr int BLOCK = 32;
constexpr unsigned ALL = 0xffffffffu;

// Numbers that one lane reads at a time.
template <typename T> struct Pack {
    static constexpr int SIZE = 16 / sizeof(T);
    alignas(16) T numbers[SIZE];
};

__device__ __forceinline__ float sum_of_warp(float x) {
    for (int distance = 16; distance > 0; distance /= 2)
        x += __shfl_xor_sync(ALL, x, distance);
    return x;
}

__device__ __forceinline__ float largest_of_warp(float x) {
    for (int distance = 16; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL, x, distance));
    return x;
}

// The sum over a block of at most 1024 threads, a multiple of 32; the same on all. `room` has 32 numbers.
__device__ __forceinline__ float sum_of_block(float x, float *room) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = sum_of_warp(x);
    __syncthreads(); // whoever still reads what the last call left
    if (lane == 0)
        room[warp] = x;
    __syncthreads();
    return sum_of_warp(lane < warps ? room[lane] : 0.0f);
}
