// The CUDA backend: its design, its limits, and the launches. Each .cu file instantiates one direction for one type,
// so that a build uses many cores.
//
//   numeric.cuh       types, 128-bit packs                        } without torch and CUDA headers
//   call.cuh          the data of a launch, work of each thread   }
//   sample.cuh        positions, weights, the four neighbors      }
//   forward.cuh  grad_weights.cuh  plane.cuh  grad_x.cuh: kernels }
//   plan.h            choice of kernel, threads and tiles         }
//   register.cpp      the operators on tensors, by LibTorch's stable ABI
//
// tests/cuda_emulator runs all of them without a GPU: every CUDA thread, barrier and launch.
//
// Forward. A thread computes two 128-bit packs of one output pixel and group: at C' = 16 two threads share a group in
// float, and one thread computes the whole group in half precision. For K = 3 a thread reads all offsets and masks of
// its pixel at once into registers, and computes the softmax there. Positions are resolved without a branch: indices
// are clamped to the image, and shares outside it are zero.
//
// Backward, two kernels. Gradients of offset and mask: the same threads as forward, four dot products per point, and
// one shuffle per doubling of the threads. Gradient of x: no atomics, which would send 36 C' floats per pixel and group
// to L2 and add them in another order in every run. Here blocks own tiles of the gradient in shared memory, and their
// lanes never add to the same element. So the result is always deterministic, nothing is zeroed first, half-precision
// gradients need no float copy, and each element is written once. A map that exceeds shared memory is divided into
// tiles; then a kernel that runs first determines which 32-pixel chunks reach which tile, for any offsets.
//
// Counts of instructions and turns, and what they predict for a GPU: cuda_ops/results/cuda-counts.md.
#pragma once
#include <cuda_runtime_api.h>

#include "launch.h"
#include "plan.h"

namespace dcnv3::cuda {

inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

inline unsigned blocks_of(int64_t count, int64_t block) { return static_cast<unsigned>(rounded_up(count, block)); }

template <typename T>
const char* forward(const Geometry& g, const Tensors& t, void* stream) {
  if (const char* words = refusal(g)) return words;
  return with_forward_kernel<T>(g, t, [&](auto choice) {
    using C = decltype(choice);
    return each_part(call_of<T>(g, t, C::V, forward_lanes<C>(g)), [&](const Call& c) {
      forward_kernel<T, C::V, C::L, C::kKernel>
          <<<blocks_of(c.slots, kBlock), kBlock, 0, static_cast<cudaStream_t>(stream)>>>(c);
      return launch_error();
    });
  });
}

template <typename T>
const char* launch_grad_weights(const Geometry& g, const Tensors& t, cudaStream_t stream) {
  return with_grad_weights_kernel<T>(g, t, [&](auto choice) -> const char* {
    using C = decltype(choice);
    const TeamPlan team = team_plan<T, C>(g, t);
    if (team.shared_bytes > kSharedBytes) return "the kernel size is too large for the gradient of a softmax";
    return each_part(call_of<T>(g, t, C::V, team.lanes), [&](const Call& c) {
      grad_weights_kernel<T, C::V, C::L, C::kKernel>
          <<<blocks_of(c.slots, team.block), team.block, team.shared_bytes, stream>>>(c);
      return launch_error();
    });
  });
}

// Gets the sizes for the current device from the driver's own table, without waiting or allocating.
inline const char* shared_memory(SharedMemory& shared) {
  int device = 0, multiprocessor = 0, reserved = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  }
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&reserved, cudaDevAttrReservedSharedMemoryPerBlock, device);
  shared = {multiprocessor, reserved};
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

inline const char* attribute_error(cudaError_t error) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // clears the error, or the next launch of any kernel would report it
  return cudaGetErrorString(error);
}

// Lets a block of `grad_x_kernel` use `bytes` of shared memory, and as many blocks as fit share a multiprocessor.
//
// Set it in every launch: it applies to the current device only, and setting it costs less than a query. Set the
// maximum and not this call's own size: a larger call may be captured in a graph or be launched by another thread.
template <typename S, int kKernel>
const char* prepare_grad_x(int bytes, const SharedMemory& shared) {
  constexpr auto kernel = grad_x_kernel<S, kKernel>;
  constexpr int kAllShared = 100;  // percent: the driver divides L1 and shared memory, and may leave less to it
  const auto preferred = cudaFuncAttributePreferredSharedMemoryCarveout;
  if (const char* error = attribute_error(cudaFuncSetAttribute(kernel, preferred, kAllShared))) return error;
  if (bytes <= kSharedBytes) return nullptr;
  const int most = static_cast<int>(most_plane_shared_bytes<S>(shared));
  return attribute_error(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
}

template <typename S, int kKernel>
const char* launch_grad_x(const Geometry& g, const Tensors& t, void* workspace, cudaStream_t stream) {
  using T = typename S::T;
  SharedMemory shared;
  if (const char* error = shared_memory(shared)) return error;
  PlaneCall p = plane_call<S>(g, t, shared);
  if (std::max(plane_blocks(p), box_count(p.c)) > kMaxSlots) {
    return "batches of that many images and groups are not supported";
  }
  if (is_tiled(p)) {
    if (!workspace) return "this device has less shared memory than any that is supported";
    auto* boxes = static_cast<Box*>(workspace);
    const auto count = static_cast<uint32_t>(box_count(p.c));
    boxes_kernel<T, kKernel><<<blocks_of(count, kBlock / 32), kBlock, 0, stream>>>(p.c, boxes, count);
    if (const char* error = launch_error()) return error;
    p.boxes = boxes;
  }
  const int bytes = static_cast<int>(plane_shared_bytes<S>(p));
  if (const char* error = prepare_grad_x<S, kKernel>(bytes, shared)) return error;
  grad_x_kernel<S, kKernel><<<static_cast<unsigned>(plane_blocks(p)), plane_threads(p), bytes, stream>>>(p);
  return launch_error();
}

template <typename T>
const char* backward(const Geometry& g, const Tensors& t, void* workspace, void* stream) {
  if (const char* words = refusal(g)) return words;
  const auto to = static_cast<cudaStream_t>(stream);
  if (t.grad_offset || t.grad_mask) {
    if (const char* error = launch_grad_weights<T>(g, t, to)) return error;
  }
  if (!t.grad_x) return nullptr;
  return with_grad_x_kernel<T>(g, [&](auto slice, auto kernel) {
    return launch_grad_x<decltype(slice), kernel()>(g, t, workspace, to);
  });
}

template <typename T>
int64_t workspace_bytes(const Geometry& g, const Tensors& t) {
  if (!t.grad_x || refusal(g)) return 0;
  return with_grad_x_kernel<T>(g, [&](auto slice, auto) -> int64_t {
    const PlaneCall p = plane_call<decltype(slice)>(g, t, kLeastShared);  // tiles of other devices are no smaller
    return is_tiled(p) ? box_count(p.c) * static_cast<int64_t>(sizeof(Box)) : 0;
  });
}

}  // namespace dcnv3::cuda
