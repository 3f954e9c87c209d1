// What the registration calls: the launches of the CUDA kernels, free of torch and of CUDA's headers.
//
// The functions return null, or what went wrong in words. They enqueue on `stream` of the current device and neither
// wait nor allocate, so a CUDA graph can capture them.
#pragma once
#include "call.cuh"

namespace dcnv3::cuda {

// T is the type of x: float, Half, BFloat16 or double. Offset and mask, and their gradients, are of type T or, with
// `Tensors::float_weights`, float. x, output and the gradients are contiguous; offset and mask have one stride between
// pixels; offset is aligned to pairs of its values, and so is its stride. The batch is not empty.
template <typename T>
const char* forward(const Geometry& g, const Tensors& t, void* stream);

// The gradients whose pointers are not null. `workspace` is `workspace_bytes` of device memory, aligned as allocators
// do, that may hold anything.
template <typename T>
const char* backward(const Geometry& g, const Tensors& t, void* workspace, void* stream);

template <typename T>
int64_t workspace_bytes(const Geometry& g, const Tensors& t);

}  // namespace dcnv3::cuda
