// The launches of the CUDA kernels, for the registration, without headers of torch or CUDA.
//
// The functions return null, or an error message. They enqueue on `stream` of the current device and neither wait nor
// allocate, so a CUDA graph can capture them.
#pragma once
#include "call.cuh"

namespace dcnv3::cuda {

// T is the type of x: float, Half, BFloat16 or double. Offset, mask and their gradients have type T or, with
// `Tensors::float_weights`, float. x, output and the gradients are contiguous; offset and mask have one stride between
// pixels; offset and its stride are aligned to pairs of values. The batch is not empty.
template <typename T>
const char* forward(const Geometry& g, const Tensors& t, void* stream);

// Computes the gradients whose pointers are not null. `workspace` is `workspace_bytes` of device memory with any
// content, aligned as by an allocator.
template <typename T>
const char* backward(const Geometry& g, const Tensors& t, void* workspace, void* stream);

template <typename T>
int64_t workspace_bytes(const Geometry& g, const Tensors& t);

}  // namespace dcnv3::cuda
