// Runs CUDA kernels on a CPU and checks how their threads work together.
//
//   fiber.h        a CUDA thread is a fiber
//   emulator.h     launches, the meetings of threads, settings and counts
//   cuda.h         the names that kernels use: threadIdx, __shfl_sync, cudaGetLastError, ...
//   rewrite.py     changes the few constructs that only nvcc understands
//
// What it checks, besides the numbers:
//   - Convergence. All threads of a block come to the same __syncthreads, all lanes of a warp to the same collective
//     with a full mask, and nobody has ended before. A kernel that breaks this is stopped, and its launch fails.
//   - Shared memory has exactly the requested bytes and is filled with `poison`, so that a value that nobody wrote
//     changes the result from one poison to another.
//   - The order in which threads run between two meetings is a setting; the result must not depend on it.
//   - Launch limits: threads of a block, launch bounds, dynamic shared memory of a kernel, aligned vector loads.
//   - A thread that waits forever, or a kernel that never ends although its threads meet again and again.
//   - Built with AddressSanitizer: accesses outside a buffer. Built with ThreadSanitizer: two threads that access one
//     element, one of them writing, unless __syncwarp or __syncthreads orders them. No other collective orders memory.
//
// What it does not check: the number formats' last bit (multiply-add is not fused, ex2.approx is exact), the memory
// system, and whether nvcc compiles the kernels correctly.
#pragma once
#include <cstdint>
#include <functional>

namespace emulator {

enum Order { kFirst, kLast, kRandom };  // which of the threads that can continue runs next

struct Settings {
  int64_t order = kFirst, seed = 1, poison = 0xff, reverse_blocks = 0;
  int64_t multiprocessor_bytes = 228 << 10, reserved_bytes = 1 << 10, block_bytes = 227 << 10;  // of shared memory
  int64_t max_slots = (int64_t{1} << 31) - 128;  // threads of a launch, `kMaxSlots` of plan.h
  int64_t max_turns = int64_t{1} << 26;          // of a block: the number of times that its fibers continue
  int64_t defective_lane = -1;                   // reads wrong numbers, as on a defective device
  int64_t count_reads = 0;                       // whether to count sectors; it takes time
};

struct Counts {
  int64_t launches, blocks, threads, turns;
  int64_t barriers;  // __syncthreads, once per block
  int64_t warp_syncs, collectives;  // __syncwarp, and all other collectives, once per warp
  // Between two barriers a block waits for the warp that has most to do: the sum of its `warp_syncs`.
  int64_t slowest_warp_syncs;
  int64_t largest_shared_bytes;
  // Sectors of 32 bytes that __ldg reads, each counted once per block, or once per launch: what L1 reads from L2 if no
  // two blocks share a line in L1, and what L2 reads from memory if every line stays in L2.
  int64_t block_sectors, launch_sectors;
};

extern Settings settings;
extern Counts counts;

// ---- for launches ----

struct LaunchConfig {
  int64_t grid, block, shared_bytes;
};

// Runs `thread` once per thread of the grid, one block after the other. Errors are what cudaGetLastError returns.
void launch(const void* kernel, const LaunchConfig& config, const std::function<void()>& thread);

// ---- for kernels ----

struct Index {
  unsigned x, y, z;
};
Index thread_index();
Index block_index();
Index block_size();
unsigned char* shared_memory();

// Whether this thread is the `defective_lane` of its warp.
bool is_defective();

// For `count_reads`: a read of global memory.
void note_read(const void* from, int bytes);

// At the start of a kernel: its __launch_bounds__.
void require_bounds(int most_threads, int blocks_at_once = 1);

enum Meeting { kNone, kBarrier, kWarpSync, kShuffle, kShuffleXor, kBallot, kMinimum, kMaximum };

// Waits for all threads of the block. `line` distinguishes the barriers of the source.
void meet_block(int line);

// Waits for the warp's other lanes. Returns the value of each lane, valid until this lane's next meeting.
const uint64_t* meet_warp(Meeting kind, unsigned mask, uint64_t value, int line);

// Stops the kernel with an error, which the launch reports as cudaErrorLaunchFailure.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emulator
