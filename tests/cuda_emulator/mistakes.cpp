// Small kernels, each with one mistake that the emulator must find, and two without.
#include "cuda.h"

namespace {

__attribute__((aligned(16))) unsigned char memory[64];

void correct() {
  const int lane = static_cast<int>(threadIdx.x % 32);
  auto* shared = reinterpret_cast<int*>(emulator::shared_memory());
  shared[threadIdx.x] = __shfl_xor_sync(0xffffffffu, lane, 1);
  __syncthreads();
  const int neighbor = shared[threadIdx.x ^ 32];
  const bool right = neighbor == (lane ^ 1) && __reduce_max_sync(0xffffffffu, lane) == 31 &&
                     __reduce_min_sync(0xffffffffu, lane - 7) == -7 && __shfl_sync(0xffffffffu, lane, 5) == 5 &&
                     __ballot_sync(0xffffffffu, lane == 3) == 8;
  if (!right) emulator::fail("wrong values");
}

// A lane that leaves early is no mistake if no other waits for it later.
void all_return() {
  if (threadIdx.x % 2) return;
}

void early_return() {
  if (threadIdx.x == 5) return;
  __syncwarp();
}

void early_return_of_a_warp() {
  if (threadIdx.x >= 32) return;
  __syncthreads();
}

void partial_mask() { __ballot_sync(0xffffu, true); }

void two_collectives() {
  if (threadIdx.x % 32 < 4) {
    __syncwarp();
  } else {
    __syncwarp();
  }
}

void barrier_in_a_branch() {
  if (threadIdx.x % 32 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

void two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

void never_ends() {
  for (;;) __syncwarp();
}

void misaligned_load() { __ldg(reinterpret_cast<uint4*>(memory + 4)); }

void too_many_threads() { emulator::require_bounds(32); }

void nothing() {}

struct Launch {
  const char* name;
  void (*kernel)();
  emulator::LaunchConfig config;
};
constexpr Launch kLaunches[] = {
    {"correct", correct, {3, 64, 256}},
    {"all return", all_return, {3, 64, 0}},
    {"early return", early_return, {1, 32, 0}},
    {"early return of a warp", early_return_of_a_warp, {1, 64, 0}},
    {"partial mask", partial_mask, {1, 32, 0}},
    {"two collectives", two_collectives, {1, 32, 0}},
    {"barrier in a branch", barrier_in_a_branch, {1, 32, 0}},
    {"two barriers", two_barriers, {1, 64, 0}},
    {"never ends", never_ends, {1, 32, 0}},
    {"misaligned load", misaligned_load, {1, 32, 0}},
    {"too many threads", too_many_threads, {1, 64, 0}},
    {"part of a warp", nothing, {1, 48, 0}},
    {"too much shared memory", nothing, {1, 32, (48 << 10) + 1}},
    {"an empty grid", nothing, {0, 32, 0}},
    {"a large block", nothing, {1, 1056, 0}},
};

}  // namespace

// The error of a kernel's launch, or null.
extern "C" const char* run_mistake(const char* name) {
  for (const Launch& each : kLaunches) {
    if (std::strcmp(each.name, name) != 0) continue;
    emulator::launch(reinterpret_cast<const void*>(each.kernel), each.config, each.kernel);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  }
  return "no such kernel";
}
