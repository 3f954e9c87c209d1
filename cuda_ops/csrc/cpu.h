// The CPU backend's kernels, without torch; cpu_register.cpp calls them with the data of tensors.
#pragma once
#include <cstdint>
#include <functional>

#include "geometry.h"

namespace dcnv3::cpu {

// X is the type of x and of the output, M that of offset and mask. float16, bfloat16 and float are computed in float,
// double in double. All tensors except offset and mask are contiguous.
template <typename X, typename M>
void forward(const Geometry& g, const X* x, const M* offset, const M* mask, X* out);

// A pointer is null if its gradient is not needed.
template <typename X, typename M>
struct Gradients {
  X* x;
  M *offset, *mask;
};

template <typename X, typename M>
void backward(const Geometry& g, const X* grad, const X* x, const M* offset, const M* mask, const Gradients<X, M>& to);

// Runs `task` for 0 to count - 1, on torch's number of threads.
void parallel_for(int64_t count, const std::function<void(int64_t)>& task);

int64_t num_threads();

}  // namespace dcnv3::cpu
