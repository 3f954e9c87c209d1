// Plans the launches of a call: choice of kernel, threads and tiles. Plain C++ and constant time.
#pragma once
#include <algorithm>

#include "forward.cuh"
#include "grad_weights.cuh"
#include "grad_x.cuh"

namespace dcnv3::cuda {

// The template arguments of a kernel: L packs of V channels per thread, and the kernel size K, or 0 for any.
template <int V_, int L_, int kKernel_>
struct Choice {
  static constexpr int V = V_, L = L_, kKernel = kKernel_;
};

// Two packs of 16 bytes per thread if the channels and the alignment allow it, because computing a point's position
// costs the same for one channel as for sixteen. Otherwise four single channels; also in double, which is for gradient
// checks.
template <typename T, int kKernel>
using Wide = Choice<16 / sizeof(T), 2, kKernel>;
using Narrow = Choice<1, 4, 0>;

inline constexpr int64_t kSharedBytes = 48 * 1024;  // available to a block without setting an attribute

// Shared memory of a device, in bytes.
struct SharedMemory {
  int64_t multiprocessor, reserved;  // every block uses `reserved` of it
};
inline int blocks_at_once(const SharedMemory& shared) { return shared.multiprocessor >= 160 * 1024 ? 3 : 2; }
inline constexpr SharedMemory kLeastShared{100 * 1024, 1024};  // sm_86, sm_89; sm_80 has 164 KB, sm_90 228

inline constexpr int64_t kBand = 4, kBundle = 4;  // output rows and groups whose pairs are close together in a launch
inline constexpr int64_t kMaxSlots = (int64_t{1} << 31) - kBlock;

inline int64_t rounded_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline bool aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// The error message for a call that the kernels do not support, or null.
inline const char* refusal(const Geometry& g) {
  constexpr int64_t k31 = int64_t{1} << 31;
  if (std::max(g.h, g.w) > kMaxSize) return "images of more than 4,194,304 pixels on a side are not supported";
  if (g.h * g.w >= k31 || g.ho * g.wo >= k31) return "images of 2^31 pixels and more are not supported";
  if (g.n * g.ho >= k31) return "batches of 2^31 output rows and more are not supported";
  if (g.groups * g.group_channels >= k31) return "images of 2^31 channels and more are not supported";
  if (g.kernel > 1024) return "kernel sizes over 1024 are not supported";
  return nullptr;
}

template <typename T>
bool packs_fit(const Geometry& g, const Tensors& t) {
  constexpr int V = Wide<T, 0>::V;
  return sizeof(T) < 8 && g.group_channels % V == 0 &&
         g.h * g.w * (g.groups * g.group_channels / V) < (int64_t{1} << 31) && aligned(t.x, 16) &&
         aligned(t.grad, 16) && aligned(t.output, 16);
}

// The data of a launch with `lanes` threads per pair; `each_part` sets its rows and slots.
template <typename T>
Call call_of(const Geometry& g, const Tensors& t, int pack, int64_t lanes) {
  Call c{};
  c.g = g, c.t = t;
  const int64_t bundle = g.groups % kBundle == 0 ? kBundle : g.groups;
  c.lanes = Divisor(lanes), c.bundle = Divisor(bundle), c.bundles = Divisor(g.groups / bundle);
  c.groups = Divisor(g.groups), c.wo = Divisor(g.wo), c.ho = Divisor(g.ho);
  c.kernel = Divisor(g.kernel);
  c.group_packs = static_cast<int>(g.group_channels / pack);
  c.pixel_packs = g.groups * c.group_packs, c.row_packs = g.w * c.pixel_packs;
  c.first_cells = kFirstCell<Arithmetic<T>> * (c.pixel_packs + c.row_packs);
  c.image_pixels = static_cast<uint32_t>(g.ho * g.wo), c.chunk_spread = chunk_spread(g);
  const int64_t pixel_bytes = g.groups * g.group_channels * static_cast<int64_t>(sizeof(T));
  c.step_x = g.w > 1 ? pixel_bytes : 0, c.step_y = g.h > 1 ? g.w * pixel_bytes : 0;
  return c;
}

// Calls `run` with each part of a call that 32-bit slots can number, until `run` returns an error. A part has whole
// bands of output rows.
template <typename Run>
const char* each_part(Call c, const Run& run) {
  const int64_t rows = c.g.n * c.g.ho, row_slots = c.g.wo * c.g.groups * c.lanes.divisor;
  if (row_slots > kMaxSlots) return "rows of that many pixels, groups and channels are not supported";
  const int64_t most = std::min(rows, kMaxSlots / row_slots), part = most < kBand ? most : most / kBand * kBand;
  for (c.first_row = 0; c.first_row < rows; c.first_row += part) {
    const int64_t part_rows = std::min(part, rows - c.first_row);
    c.band_rows = part_rows % kBand == 0 ? 2 : part_rows % 2 == 0 ? 1 : 0;
    c.slots = static_cast<uint32_t>(part_rows * row_slots);
    if (const char* error = run(c)) return error;
  }
  return nullptr;
}

template <typename C>
int64_t forward_lanes(const Geometry& g) {
  return rounded_up(g.group_channels / C::V, C::L);
}

// The threads of a team, a power of two and at most a warp, and the block that holds its teams.
struct TeamPlan {
  int lanes, block;
  int64_t shared_bytes;
};

template <typename T, typename C>
TeamPlan team_plan(const Geometry& g, const Tensors& t) {
  const int64_t threads = forward_lanes<C>(g), kept = g.points * static_cast<int64_t>(sizeof(Arithmetic<T>));
  TeamPlan plan{1, kBlock, 0};
  while (plan.lanes < std::min<int64_t>(threads, 32)) plan.lanes *= 2;
  if (!keeps_sums<C::kKernel>(g, t)) return plan;
  while (plan.block > 32 && plan.block / plan.lanes * kept > kSharedBytes) plan.block /= 2;
  while (plan.lanes < 32 && plan.block / plan.lanes * kept > kSharedBytes) plan.lanes *= 2;
  plan.shared_bytes = plan.block / plan.lanes * kept;
  return plan;
}

// The number of pixels of the largest tile. Three blocks share a multiprocessor if its memory is large enough: with
// larger tiles fewer pixels reach two of them, and with more blocks there are more warps.
template <typename S>
int64_t plane_room(const SharedMemory& shared) {
  const int64_t bytes = shared.multiprocessor / blocks_at_once(shared) - shared.reserved - PlaneMemory<S>::bytes(0);
  return bytes / (PlaneMemory<S>::bytes(1) - PlaneMemory<S>::bytes(0));
}

// A tile has at least six rows if the map has: with fewer, processing the rows above and below it costs too much.
template <typename S>
PlaneCall plane_call(const Geometry& g, const Tensors& t, const SharedMemory& shared) {
  using T = typename S::T;
  PlaneCall p{};
  p.c = call_of<T>(g, t, 1, 1);
  const int64_t room = plane_room<S>(shared);
  const int64_t widest = g.h * g.w <= room ? g.w : std::max<int64_t>(1, room / std::min<int64_t>(g.h, 6));
  p.tile_w = static_cast<int>(rounded_up(g.w, rounded_up(g.w, widest)));
  p.tile_h = static_cast<int>(rounded_up(g.h, rounded_up(g.h, std::min(g.h, room / p.tile_w))));
  p.tiles_x = static_cast<int>(rounded_up(g.w, p.tile_w)), p.tiles_y = static_cast<int>(rounded_up(g.h, p.tile_h));
  p.slices = static_cast<int>(rounded_up(g.group_channels, S::kChannels));
  p.warps = p.tile_w * p.tile_h >= 256 ? kMaxWarps : 1;  // nearly all pixels of a small map touch every owner
  p.owner_columns = static_cast<int>(rounded_up(p.tile_w, int64_t{p.warps} * S::kOwners));
  p.whole_runs = g.group_channels % S::kRun == 0 && aligned(t.grad, sizeof(T) * S::kRun) &&
                 aligned(t.grad_x, sizeof(T) * S::kRun);
  return p;
}

inline int plane_threads(const PlaneCall& p) { return (p.warps + 1) * 32; }

inline bool is_tiled(const PlaneCall& p) { return p.tiles_x > 1 || p.tiles_y > 1; }

inline int64_t plane_blocks(const PlaneCall& p) {
  return p.c.g.n * p.tiles_x * p.tiles_y * p.slices * p.c.g.groups;
}

template <typename S>
int64_t plane_shared_bytes(const PlaneCall& p) {
  return PlaneMemory<S>::bytes(static_cast<int64_t>(p.tile_w) * p.tile_h);
}

// The largest shared memory of a block for any call on this device.
template <typename S>
int64_t most_plane_shared_bytes(const SharedMemory& shared) {
  return PlaneMemory<S>::bytes(plane_room<S>(shared));
}

inline int64_t box_count(const Call& c) { return c.g.n * chunks_of(c) * c.g.groups; }

// The choices of kernels. Each function calls `run` with one choice and returns its result.

template <typename T, typename Run>
auto with_forward_kernel(const Geometry& g, const Tensors& t, const Run& run) {
  if constexpr (sizeof(T) < 8) {
    if (packs_fit<T>(g, t)) {
      if (g.kernel == 3) return run(Wide<T, 3>());
      if (g.kernel == 5) return run(Wide<T, 5>());
      if (g.kernel == 7) return run(Wide<T, 7>());
      return run(Wide<T, 0>());
    }
  }
  return run(Narrow());
}

// In the kernels of a fixed K the threads of one team hold all channels of a group at once.
template <typename T, typename Run>
auto with_grad_weights_kernel(const Geometry& g, const Tensors& t, const Run& run) {
  return with_forward_kernel<T>(g, t, [&](auto choice) {
    using C = decltype(choice);
    if constexpr (C::V > 1) {
      if (forward_lanes<C>(g) > 32) return run(Wide<T, 0>());
    }
    return run(choice);
  });
}

// Calls `run` with a slice and with K as a constant.
template <typename T, typename Run>
auto with_grad_x_kernel(const Geometry& g, const Run& run) {
  using Three = std::integral_constant<int, 3>;
  using Any = std::integral_constant<int, 0>;
  if constexpr (sizeof(T) < 8) {
    if (g.group_channels <= 16) return g.kernel == 3 ? run(Slice<T, 4>(), Three()) : run(Slice<T, 4>(), Any());
    if (g.kernel == 3) return run(Slice<T, 8>(), Three());
  }
  return run(Slice<T, 8>(), Any());
}

}  // namespace dcnv3::cuda
