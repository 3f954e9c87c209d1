// The bodies of launch.h. Each .cu file instantiates one direction for one type, so that a build runs on many cores.
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

// Of the current device; asks the driver's own table, which neither waits nor allocates.
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

template <typename S, int kKernel>
const char* launch_grad_x(const Geometry& g, const Tensors& t, void* workspace, cudaStream_t stream) {
  using T = typename S::T;
  SharedMemory shared;
  if (const char* error = shared_memory(shared)) return error;
  PlaneCall p = plane_call<S>(g, t, shared);
  if (plane_blocks(p) > kMaxSlots) return "batches of that many images and groups are not supported";
  if (is_tiled(p)) {
    if (!workspace) return "this device has less shared memory than any that is supported";
    auto* boxes = static_cast<Box*>(workspace);
    const int64_t count = box_count(p.c);
    boxes_kernel<T><<<blocks_of(count, kBlock / 32), kBlock, 0, stream>>>(p.c, boxes, count);
    if (const char* error = launch_error()) return error;
    p.boxes = boxes;
  }
  const int bytes = static_cast<int>(plane_shared_bytes<S>(p));
  if (bytes > kSharedBytes) {
    // On every launch, not once: it holds for the current device alone, and costs less than finding out.
    cudaFuncSetAttribute(grad_x_kernel<S, kKernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  }
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
    const PlaneCall p = plane_call<decltype(slice)>(g, t, kLeastShared);  // elsewhere tiles are no smaller
    return is_tiled(p) ? box_count(p.c) * static_cast<int64_t>(sizeof(Box)) : 0;
  });
}

}  // namespace dcnv3::cuda
