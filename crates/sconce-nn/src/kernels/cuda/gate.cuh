// Activation functions, and the product of an activated gate with what it gates.
#pragma once
#include "common.cuh"

// In the order of `Act` in activation.rs.
enum Act { GELU, GELU_TANH, QUICK_GELU, SILU, RELU, RELU_SQUARED, TANH, SIGMOID, LINEAR };

__device__ __forceinline__ float activated(int act, float x) {
    switch (act) {
    case GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case QUICK_GELU:
        return x / (1.0f + expf(-1.702f * x));
    case SILU:
        return x / (1.0f + expf(-x));
    case RELU:
        return fmaxf(x, 0.0f);
    case RELU_SQUARED:
        return fmaxf(x, 0.0f) * fmaxf(x, 0.0f);
    case TANH:
        return tanhf(x);
    case SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    default:
        return x;
    }
}

// `out` = act(gate) * up of `count` numbers; `up` may be null.
template <typename T>
__device__ __forceinline__ void gated(const T *gate, const T *up, int act, T *out, size_t count) {
    const size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        const float value = activated(act, wide(gate[i]));
        narrow(up ? value * wide(up[i]) : value, out[i]);
    }
}
