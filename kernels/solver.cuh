// What the solvers' kernels have in common.
#pragma once

// The value, or the bound that it is beyond; a NaN stays one.
__device__ __forceinline__ float within(float value, float low, float high) {
    value = value < low ? low : value;
    return value > high ? high : value;
}
