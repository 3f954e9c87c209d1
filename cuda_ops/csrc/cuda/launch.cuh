// The CUDA backend: its design, its limits, and the launches. Each .cu file instantiates one direction for one type,
// so that a build uses many cores.
//
//   numeric.cuh       types, 128-bit packs                        } without torch and CUDA headers: the same bodies
//   call.cuh          the data of a launch, work of each thread   } are compiled for the host and compared with the
//   sample.cuh        positions, weights, the four neighbors      } definition in float64
//   forward.cuh  grad_weights.cuh  plane.cuh  grad_x.cuh: kernels } (tests/cuda_ops/test_cuda_host.py)
//   plan.h            choice of kernel, threads and tiles         }
//   register.cpp      the operators on tensors, by LibTorch's stable ABI
//
// Forward. A thread computes two 128-bit packs of one output pixel and group: at C' = 16 two threads share a group in
// float, and one thread computes the whole group in half precision. For K = 3 a thread reads all offsets and masks of
// its pixel at once into registers, and computes the softmax there. Positions are resolved without a branch: indices
// are clamped to the image, and shares outside it are zero.
//
// Backward, two kernels. Gradients of offset and mask: the same threads as forward, four dot products per point, and
// one shuffle per doubling of the threads. Gradient of x: no atomics. Scattering it with `red.global.add.v4.f32`
// (sm_90) would send 36 C' floats per pixel and group to L2: 1.85 GB at T's first stage. At the 64 bytes per clock that
// leave a multiprocessor this takes 110 us before L2 has added any, and the order of additions would differ in every
// run. Here blocks own tiles of the gradient in shared memory, and their lanes never add to the same element. So the
// result is always deterministic, nothing is zeroed first, half-precision gradients need no float copy, and each
// element is written once. A map that exceeds shared memory is divided into tiles; then a kernel that runs first
// determines which 32-pixel chunks reach which tile, for any offsets.
//
// Limits on an H200 (132 multiprocessors at 1.98 GHz; the memory floor is 59 elements forward and 102 backward per
// pixel and group at 4.8 TB/s). L1 reads 128 bytes per clock: 36 * 16 values of a pixel and group take 1.4 times the
// forward floor. Instructions per pixel and group at K = 3 and C' = 16, counted in the sm_90 code: forward 2 * 1040 in
// float and 1950 in bfloat16, of which 580 only convert to float; offset and mask gradients about 2 * 1550 and 2400;
// gradient of x about 200 of a whole warp in either type.
//
// PREDICTIONS, not measurements: no GPU was available. Batch 64 at 224x224, with softmax, 80-85% of the binding limit:
//
//                    forward us (times the floor)      backward us (times the floor)
//                    float         bfloat16            float         bfloat16
//   56x56x64  G4     70 (1.8)      61 (3.1)            280 (4.1)     260 (7.6)
//   28x28x128 G8     37 (1.9)      32 (3.2)            140 (4.1)     130 (7.6)
//   14x14x256 G16    20 (2.0)      17 (3.5)             70 (4.1)      68 (8.0)
//   7x7x512   G32    11 (2.3)      10 (4.0)             45 (5.3)      45 (11)
//
// Forward in float is bound by L1, everything else by instructions. Not known: how many cache lines one pass of a load
// can look up. In half precision a pass has eight, one per thread. If that is too many, one pack per thread (`Wide` in
// plan.h) has four, for 28% more instructions. To try first, with `python -m cuda_ops.gpu_session`: one pack per
// thread; computing the weights of a point in one of its two threads and shuffling them to the other; a second warp
// that writes steps in grad_x.
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
    const int64_t count = box_count(p.c);
    boxes_kernel<T><<<blocks_of(count, kBlock / 32), kBlock, 0, stream>>>(p.c, boxes, count);
    if (const char* error = launch_error()) return error;
    p.boxes = boxes;
  }
  const int bytes = static_cast<int>(plane_shared_bytes<S>(p));
  if (bytes > kSharedBytes) {
    // Set it in every launch: it applies to the current device only, and setting it costs less than a query. Set the
    // maximum and not this call's own size: a larger call may be captured in a graph or be launched by another thread.
    const int most = static_cast<int>(most_plane_shared_bytes<S>(shared));
    const cudaError_t error =
        cudaFuncSetAttribute(grad_x_kernel<S, kKernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    if (error != cudaSuccess) {
      cudaGetLastError();  // clears the error, or the next launch of any kernel would report it
      return cudaGetErrorString(error);
    }
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
    const PlaneCall p = plane_call<decltype(slice)>(g, t, kLeastShared);  // tiles of other devices are no smaller
    return is_tiled(p) ? box_count(p.c) * static_cast<int64_t>(sizeof(Box)) : 0;
  });
}

}  // namespace dcnv3::cuda
