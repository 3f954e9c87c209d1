// The gradient of x without atomics. A block owns a tile of one (image, group) plane of the gradient in shared memory,
// processes the image's output pixels that reach the tile, and writes the tile once. Every element is summed in one
// order of chunks, pixels and points, so the result is the same in every run and for every division into tiles.
//
// A step is a round of kRound points of each pixel in a chunk of 32 output pixels. One warp, with a pixel per lane,
// writes the position in the tile and the weight of each point's four neighbors to shared memory. At the same time the
// other warps add the previous step: each owner processes the pixels that touch its columns, and its lanes add one
// point's whole contribution at a time. No two lanes and no two owners ever add to the same element. Owners divide the
// columns, not the rows, because a chunk has few rows but many columns, over which its pixels are spread.
#pragma once
#include "plane.cuh"

namespace dcnv3::cuda {

// ---- writing a step ----

template <typename S>
DCNV3_HOST_DEVICE void write_gradient(const PlaneCall& p, const Tile& tile, bool exists, int64_t pair,
                                      typename S::Run* to) {
  using T = typename S::T;
  const T* from = static_cast<const T*>(p.c.t.grad) + pair * p.c.g.group_channels + tile.channel;
#pragma unroll
  for (int i = 0; i < S::kRuns; ++i) {
    const int first = i * S::kRun, left = exists ? tile.channels - first : 0;
    typename S::Run run{};
    if (p.whole_runs && left > 0) {
      const Pack<T, S::kRun> pack = read_pack<T, S::kRun>(from + first);
#pragma unroll
      for (int v = 0; v < S::kRun; ++v) run.raw[v] = pack[v];
    } else {
#pragma unroll
      for (int v = 0; v < S::kRun; ++v) {
        if (v < left) run.raw[v] = read_pack<T, 1>(from + first + v)[0];
      }
    }
    to[i] = run;
  }
}

DCNV3_HOST_DEVICE bool is_below(int value, int size) {
  return static_cast<uint32_t>(value) < static_cast<uint32_t>(size);
}

// Writes one point's four entries, in the order (column, row) = (0, 0), (0, 1), (1, 0), (1, 1). Returns the columns of
// the tile that they may touch.
template <typename S>
DCNV3_HOST_DEVICE Span write_point(const PlaneCall& p, const Tile& tile, typename S::A px, typename S::A py,
                                   typename S::A weight, bool exists, Entry<typename S::A>* to) {
  using A = typename S::A;
  const Neighbours<A> near = neighbours(px, py, p.c.g);
  const int x = near.x.cell - kFirstCell<A> - tile.x0, y = near.y.cell - kFirstCell<A> - tile.y0;
  const bool column_counts[2] = {exists && is_below(x, tile.width), exists && is_below(x + 1, tile.width)};
  const bool row_counts[2] = {is_below(y, tile.height), is_below(y + 1, tile.height)};
  constexpr int kPixel = S::kChannels * static_cast<int>(sizeof(A));
  const int at = (x * tile.height + y) * kPixel;
#pragma unroll
  for (int column = 0; column < 2; ++column) {
    const A share = weight * near.x.share[column];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const A entry = share * near.y.share[row];
      const bool counts = column_counts[column] && row_counts[row] && entry != 0;
      const int element = at + (column * tile.height + row) * kPixel;
      to[2 * column + row] = {entry, counts ? element : -1};
    }
  }
  if (!exists || (!row_counts[0] && !row_counts[1])) return {tile.width, -1};
  return {x > 0 ? x : 0, x + 1 < tile.width ? x + 1 : tile.width - 1};
}

// Writes one pixel's points of a step, from position `first` on; returns the columns that they may touch.
template <typename S, int kKernel>
DCNV3_HOST_DEVICE Span write_points(const PlaneCall& p, const Tile& tile, const Slot& s, bool exists, int first,
                                    Entry<typename S::A>* to) {
  using A = typename S::A;
  constexpr int N = kBatch<kKernel>;
  const int positions = kernel_size<kKernel>(p.c.g) * kernel_size<kKernel>(p.c.g);
  if constexpr (kKernel * kKernel == kRound) first = 0;  // as a constant, so that addresses and grid points are too
  Normaliser<A> norm{0, 1};
  if constexpr (N < kRound) norm = normaliser<typename S::T>(p.c, s);
  Span columns{tile.width, -1};
#pragma unroll 1
  for (int r = 0; r < kRound; r += N) {
    // A position beyond the last is computed as the last and not used.
    const int full = first + r < positions ? first + r : positions - 1;
    const Points<A, N> points = points_of<typename S::T, kKernel, N>(p.c, s, full, norm);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const bool counts = exists && first + r < positions && !is_removed<kKernel>(p.c.g, full + n);
      Entry<A>* entries = to + (r + n) * 4;
      columns = joined(columns,
                       write_point<S>(p, tile, points.px[n], points.py[n], points.weight[n], counts, entries));
    }
  }
  return columns;
}

template <typename S, int kKernel>
DCNV3_HOST_DEVICE void write_pixel(const PlaneCall& p, const Tile& tile, const Step& step, int pixel,
                                   const Page<S>& page) {
  static_assert(kKernel == 3 || kKernel == 0, "a batch is a round, or one point of it");
  const Slot s = slot_in_chunk(p.c, tile.n, tile.group, step.chunk, pixel);
  const bool exists = pixel_exists(p.c, step.chunk, pixel);
  write_gradient<S>(p, tile, exists, s.pair, page.grads(pixel));
  page.columns(pixel) = write_points<S, kKernel>(p, tile, s, exists, step.first, page.entries(pixel));
}

// ---- adding a step ----

template <typename S>
DCNV3_HOST_DEVICE bool pixel_touches(const Span& own, int pixel, const Page<S>& page) {
  const Span columns = page.columns(pixel);
  return columns.first <= own.last && columns.last >= own.first;
}

// The contribution of one pixel that one lane of an owner adds: lane / kRuns is the neighbor of each point, and
// lane % kRuns the run of channels.
template <typename S>
struct LaneShare {
  Entry<typename S::A> entry[kRound];
  typename S::Run grad;
};

template <typename S>
DCNV3_HOST_DEVICE LaneShare<S> lane_share(int pixel, int lane, const Page<S>& page) {
  LaneShare<S> share;
#pragma unroll
  for (int r = 0; r < kRound; ++r) share.entry[r] = page.entries(pixel)[r * 4 + lane / S::kRuns];
  share.grad = page.grads(pixel)[lane % S::kRuns];
  return share;
}

// An owner's part of the tile, in bytes: where it begins in shared memory for one lane's run of channels, its distance
// from the tile's begin, and its size.
struct Part {
  char* run;
  int32_t first;
  uint32_t size;
};

template <typename S>
DCNV3_HOST_DEVICE Part part_of(const Tile& tile, const Span& columns, int lane, typename S::A* memory) {
  const int column = tile.height * S::kChannels * static_cast<int>(sizeof(typename S::A));
  const int first = columns.first * column;
  char* run = reinterpret_cast<char*>(memory) + first + lane % S::kRuns * static_cast<int>(sizeof(typename S::Run));
  return {run, first, static_cast<uint32_t>((columns.last - columns.first + 1) * column)};
}

template <typename S>
DCNV3_HOST_DEVICE void add_entry(const Part& own, const Entry<typename S::A>& entry, const typename S::Run& grad) {
  const uint32_t distance = static_cast<uint32_t>(entry.at - own.first);
  if (distance >= own.size) return;
  auto* sum = reinterpret_cast<typename S::Run*>(own.run + distance);
  typename S::Run run = *sum;
#pragma unroll
  for (int v = 0; v < S::kRun; ++v) run.raw[v] += entry.weight * grad.raw[v];
  *sum = run;
}

// ---- clearing and writing the tile, with all `threads` or `warps` ----

template <typename S>
DCNV3_HOST_DEVICE void clear_tile(const Tile& tile, int thread, int threads, typename S::A* memory) {
  auto* runs = reinterpret_cast<typename S::Run*>(memory);
  for (int i = thread; i < tile.width * tile.height * S::kRuns; i += threads) runs[i] = {};
}

template <typename S>
DCNV3_HOST_DEVICE void write_tile(const PlaneCall& p, const Tile& tile, int warp, int warps, int lane,
                                  const typename S::A* memory) {
  using T = typename S::T;
  const int first = lane % S::kRuns * S::kRun, left = tile.channels - first;
  for (int y = warp; y < tile.height; y += warps) {
    for (int x = lane / S::kRuns; x < tile.width; x += 32 / S::kRuns) {
      const int64_t pixel = (tile.n * p.c.g.h + tile.y0 + y) * p.c.g.w + tile.x0 + x;
      T* to = static_cast<T*>(p.c.t.grad_x) + tile.channel + first +
              (pixel * p.c.g.groups + tile.group) * p.c.g.group_channels;
      const auto& run =
          *reinterpret_cast<const typename S::Run*>(memory + (x * tile.height + y) * S::kChannels + first);
      if (p.whole_runs && left > 0) {
        write_pack<T, S::kRun>(to, run.raw);
      } else {
#pragma unroll
        for (int v = 0; v < S::kRun; ++v) {
          if (v < left) to[v] = from_arithmetic<T>(run.raw[v]);
        }
      }
    }
  }
}

#ifdef __CUDACC__
// One warp per chunk and group.
template <typename T, int kKernel>
__global__ void __launch_bounds__(kBlock) boxes_kernel(const __grid_constant__ Call c, Box* boxes, uint32_t count) {
  const uint32_t index = blockIdx.x * (kBlock / 32) + threadIdx.x / 32;
  if (index >= count) return;
  const uint32_t run = c.groups.quotient(index), chunks = static_cast<uint32_t>(chunks_of(c)), n = run / chunks;
  const Box own = box_of_pixel<T, kKernel>(c, n, static_cast<int>(run - n * chunks),
                                           static_cast<int>(index - run * c.groups.divisor), threadIdx.x % 32);
  constexpr unsigned kAll = 0xffffffffu;
  const Box box{{__reduce_min_sync(kAll, own.x.first), __reduce_max_sync(kAll, own.x.last)},
                {__reduce_min_sync(kAll, own.y.first), __reduce_max_sync(kAll, own.y.last)}};
  if (threadIdx.x % 32 == 0) boxes[index] = box;
}

// The first chunk from `chunk` on that reaches the tile.
__device__ __forceinline__ int next_chunk(const PlaneCall& p, const Tile& tile, int chunk, int lane) {
  if (!p.boxes) return chunk;
  for (; chunk < chunks_of(p.c); chunk += 32) {
    const unsigned reach = __ballot_sync(0xffffffffu, chunk_reaches(p, tile, chunk + lane));
    if (reach) return chunk + __ffs(static_cast<int>(reach)) - 1;
  }
  return chunk;
}

__device__ __forceinline__ Step next_step(const PlaneCall& p, const Tile& tile, const Step& step, int lane) {
  const int first = step.first + kRound;
  if (first < p.c.g.kernel * p.c.g.kernel) return {step.chunk, first};
  return {next_chunk(p, tile, step.chunk + 1, lane), 0};
}

template <typename S>
__device__ __forceinline__ void add_step(const PlaneCall& p, const Tile& tile, int warp, int lane, const Page<S>& page,
                                         Part own) {
  const int owner = lane / S::kOwnerLanes;
  unsigned pixels = 0;
  int turns = 0;
#pragma unroll
  for (int i = 0; i < S::kOwners; ++i) {
    const Span columns = own_columns(p, tile, warp * S::kOwners + i);
    const unsigned touching = __ballot_sync(0xffffffffu, pixel_touches(columns, lane, page));
    turns = max(turns, __popc(touching));
    if (owner == i) pixels = touching;
  }
  const auto share_of_first = [&] {
    return lane_share(pixels ? __ffs(static_cast<int>(pixels)) - 1 : 0, lane % S::kOwnerLanes, page);
  };
  LaneShare<S> share = share_of_first();
#pragma unroll 2  // so that `next` becomes `share` without a copy
  for (int turn = 0; turn < turns; ++turn) {
    if (!pixels) own.size = 0;  // this owner is done, but the warp's other owner is not
    pixels &= pixels - 1;
    const LaneShare<S> next = share_of_first();
#pragma unroll
    for (int r = 0; r < kRound; ++r) {
      add_entry<S>(own, share.entry[r], share.grad);
      __syncwarp();  // in the next point another lane may add to the element that this lane has just written
    }
    share = next;
  }
}

// The blocks that share a multiprocessor, as `blocks_at_once` of plan.h: with three on a device that has the memory for
// two, K = 3 would spill.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
#define DCNV3_LEAST_BLOCKS 2
#else
#define DCNV3_LEAST_BLOCKS 3
#endif

template <typename S, int kKernel>
__global__ void __launch_bounds__(32 * (kMaxWarps + 1), DCNV3_LEAST_BLOCKS) grad_x_kernel(
    const __grid_constant__ PlaneCall p) {
  extern __shared__ __align__(16) unsigned char shared[];
  // With a shuffle the compiler knows that all lanes of a warp have the same value, and omits code for divergence.
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  const Tile tile = tile_at<S>(p, blockIdx.x);
  const PlaneMemory<S> memory(shared, static_cast<int64_t>(p.tile_w) * p.tile_h);
  const int chunks = chunks_of(p.c);
  clear_tile<S>(tile, threadIdx.x, blockDim.x, memory.tile);
  const Span columns = own_columns(p, tile, warp * S::kOwners + lane / S::kOwnerLanes);
  // With a shuffle the compiler keeps the lane's address in a register, and does not compute it again for every point.
  const Part own = part_of<S>(tile, columns, __shfl_sync(0xffffffffu, lane, lane), memory.tile);
  Step step{0, 0};
  if (warp == p.warps) step.chunk = next_chunk(p, tile, 0, lane);
  for (int i = 0;; ++i) {  // writes step i, and adds step i - 1
    const Page<S> page = memory.page(i % 2);
    if (warp == p.warps) {
      const bool exists = step.chunk < chunks;
      if (lane == 0) page.exists() = exists;
      if (exists) {
        write_pixel<S, kKernel>(p, tile, step, lane, page);
        step = next_step(p, tile, step, lane);
      }
    } else if (i > 0) {
      add_step(p, tile, warp, lane, memory.page((i + 1) % 2), own);
    }
    __syncthreads();
    if (!page.exists()) break;
  }
  write_tile<S>(p, tile, warp, p.warps + 1, lane, memory.tile);
}
#endif

}  // namespace dcnv3::cuda
