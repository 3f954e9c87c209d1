// The blocks of a launch, and the meetings of their threads.
#include "emulator.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace emulator {

Settings settings;
Counts counts;

namespace {

constexpr int kLanes = 32;

struct Thread {
  int index = 0, line = 0;
  Meeting waits_at = kNone;
  bool ended = false;
};

struct Warp {
  // Of this meeting and the last: a lane may come to the next meeting before another has read this one's values. It
  // cannot come to the one after that.
  uint64_t values[2][kLanes] = {};
  int num_arrived = 0, meetings = 0;
  int64_t syncs = 0;  // since the last barrier
  char ordered[2];    // for ThreadSanitizer
};

struct Block {
  LaunchConfig config{};
  int64_t index = 0;
  const std::function<void()>* thread_body = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<int> ready;  // threads that can continue, first come first
  Thread* current = nullptr;
  unsigned char* shared = nullptr;
  int num_running = 0, num_arrived = 0, barriers = 0;
  char ordered[2];
  std::string error;
} block;

std::unordered_set<uintptr_t> block_sectors, launch_sectors;  // that were read

std::deque<Fiber> fibers;  // by thread; kept, because their stacks take longer to allocate than to run

Fiber& fiber_of(const Thread& thread) { return fibers[thread.index]; }
Warp& warp_of(const Thread& thread) { return block.warps[thread.index / kLanes]; }

// ---- which thread runs next ----

uint64_t next_random() {  // xorshift64
  static uint64_t state, seed = 0;
  if (seed != static_cast<uint64_t>(settings.seed)) state = seed = settings.seed;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

int take_ready_thread() {
  auto& ready = block.ready;
  size_t position = settings.order == kFirst ? 0 : ready.size() - 1;
  if (settings.order == kRandom) position = next_random() % ready.size();
  const int index = ready[position];
  ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(position));
  return index;
}

void wake(Thread& thread) {
  thread.waits_at = kNone;
  block.ready.push_back(thread.index);
}

// ---- one block ----

void require_all_left(const Thread& self) {
  if (block.num_arrived > 0) fail("a thread ends while others wait at __syncthreads");
  if (warp_of(self).num_arrived > 0) fail("a lane ends while others of its warp wait in a collective");
}

void count_slowest_warp() {
  int64_t most = 0;
  for (Warp& warp : block.warps) most = std::max(most, std::exchange(warp.syncs, 0));
  counts.slowest_warp_syncs += most;
}

void run_thread() {
  (*block.thread_body)();
  Thread& self = *block.current;
  require_all_left(self);
  self.ended = true;
  --block.num_running;
  fiber_of(self).finish();
}

void start_threads() {
  const auto size = static_cast<size_t>(block.config.block);
  while (fibers.size() < size) fibers.emplace_back();
  block.threads.assign(size, Thread{});
  block.warps.assign(size / kLanes, Warp{});
  // The capacity for all: to ThreadSanitizer an allocation by a kernel's thread is memory of that thread.
  block.ready.clear(), block.ready.reserve(size);
  block.num_running = static_cast<int>(size), block.num_arrived = 0;
  for (size_t i = 0; i < size; ++i) {
    block.threads[i].index = static_cast<int>(i);
    fibers[i].start(&run_thread);
    block.ready.push_back(static_cast<int>(i));
  }
}

void run_until_all_end() {
  for (int64_t turns = 0; block.num_running > 0 && block.error.empty(); ++turns) {
    if (block.ready.empty()) {
      block.error = std::to_string(block.num_running) + " threads of a block wait forever";
    } else if (turns == settings.max_turns) {
      block.error = "a block has not ended after " + std::to_string(turns) + " turns";
    } else {
      block.current = &block.threads[take_ready_thread()];
      ++counts.turns;
      fiber_of(*block.current).resume();
    }
  }
}

void run_block(int64_t index) {
  const int64_t bytes = block.config.shared_bytes;
  block.index = index;
  // malloc aligns to 16 bytes, as the kernels require. The exact size lets AddressSanitizer see what is beyond it.
  block.shared = static_cast<unsigned char*>(malloc(bytes));
  memset(block.shared, static_cast<int>(settings.poison), bytes);
  start_threads();
  run_until_all_end();
  count_slowest_warp();
  release(block.shared);
  ++counts.blocks, counts.threads += block.config.block;
  counts.block_sectors += static_cast<int64_t>(block_sectors.size());
  block_sectors.clear();
}

cudaError_t config_error(const void* kernel, const LaunchConfig& c) {
  const bool grid_fits = c.grid >= 1 && c.grid < (int64_t{1} << 31);
  if (!grid_fits || c.block < 1 || c.block > 1024) return cudaErrorInvalidConfiguration;
  return c.shared_bytes > most_shared_bytes(kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

void launch(const void* kernel, const LaunchConfig& config, const std::function<void()>& thread) {
  if (const cudaError_t error = config_error(kernel, config)) return set_last_error(error);
  block.config = config, block.thread_body = &thread, block.error.clear();
  if (config.block % kLanes != 0) block.error = "the last warp of a block has fewer than 32 lanes";
  ++counts.launches;
  counts.largest_shared_bytes = std::max(counts.largest_shared_bytes, config.shared_bytes);
  for (int64_t i = 0; i < config.grid && block.error.empty(); ++i) {
    run_block(settings.reverse_blocks ? config.grid - 1 - i : i);
  }
  counts.launch_sectors += static_cast<int64_t>(launch_sectors.size());
  launch_sectors.clear();
  forget_finished_fibers();
  if (!block.error.empty()) set_launch_failure(block.error);
}

// ---- for kernels ----

Index thread_index() { return {static_cast<unsigned>(block.current->index), 0, 0}; }
Index block_index() { return {static_cast<unsigned>(block.index), 0, 0}; }
Index block_size() { return {static_cast<unsigned>(block.config.block), 1, 1}; }
unsigned char* shared_memory() { return block.shared; }
bool is_defective() { return block.current->index % kLanes == settings.defective_lane; }

void note_read(const void* from, int bytes) {
  constexpr int kSector = 32;
  const auto first = reinterpret_cast<uintptr_t>(from) / kSector;
  const auto last = (reinterpret_cast<uintptr_t>(from) + bytes - 1) / kSector;
  for (uintptr_t sector = first; sector <= last; ++sector) block_sectors.insert(sector), launch_sectors.insert(sector);
}

void require_bounds(int most_threads, int) {
  if (block.config.block > most_threads) fail("more than the %d threads of __launch_bounds__", most_threads);
}

void fail(const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  block.error = std::string(text) + " (block " + std::to_string(block.index) + ", thread " +
                std::to_string(block.current->index) + ")";
  fiber_of(*block.current).finish();
}

void meet_block(int line) {
  Thread& self = *block.current;
  if (block.num_running < block.config.block) fail("__syncthreads of line %d after a thread has ended", line);
  if (warp_of(self).num_arrived > 0) fail("__syncthreads of line %d while lanes wait in a collective", line);
  for (const Thread& other : block.threads) {
    if (other.waits_at == kBarrier && other.line != line) {
      fail("__syncthreads of line %d while others wait at line %d", line, other.line);
    }
  }
  self.waits_at = kBarrier, self.line = line;
  char* ordered = &block.ordered[block.barriers & 1];
  order_before(ordered);
  if (++block.num_arrived == block.config.block) {
    block.num_arrived = 0, ++block.barriers, ++counts.barriers;
    count_slowest_warp();
    for (Thread& thread : block.threads) wake(thread);
  }
  fiber_of(self).pause();
  order_after(ordered);
}

namespace {

void require_converged(const Thread& self, Meeting kind, unsigned mask, int line) {
  if (mask != 0xffffffffu) fail("a collective of line %d with the partial mask %x", line, mask);
  for (int i = self.index / kLanes * kLanes, end = i + kLanes; i < end; ++i) {
    const Thread& other = block.threads[i];
    if (other.ended) fail("a collective of line %d after lane %d has ended", line, i % kLanes);
    if (other.waits_at == kNone) continue;
    if (other.waits_at != kind || other.line != line) {
      fail("a collective of line %d while lane %d waits at line %d", line, i % kLanes, other.line);
    }
  }
}

void end_meeting(Warp& warp, Meeting kind, int first) {
  warp.num_arrived = 0, ++warp.meetings;
  if (kind == kWarpSync) ++warp.syncs;
  ++(kind == kWarpSync ? counts.warp_syncs : counts.collectives);
  for (int i = first; i < first + kLanes; ++i) wake(block.threads[i]);
}

}  // namespace

const uint64_t* meet_warp(Meeting kind, unsigned mask, uint64_t value, int line) {
  Thread& self = *block.current;
  Warp& warp = warp_of(self);
  require_converged(self, kind, mask, line);
  self.waits_at = kind, self.line = line;
  const int which = warp.meetings & 1, lane = self.index % kLanes;
  warp.values[which][lane] = value;
  if (kind == kWarpSync) order_before(&warp.ordered[which]);
  if (++warp.num_arrived == kLanes) end_meeting(warp, kind, self.index - lane);
  fiber_of(self).pause();
  if (kind == kWarpSync) order_after(&warp.ordered[which]);
  return warp.values[which];
}

}  // namespace emulator
