// The gradient of x without atomics: a block owns a tile of one (image, group) plane of it in shared memory, goes
// through the image's output pixels that reach the tile, and writes the tile once. Every element is summed in the order
// of output pixels and points, so the result is the same on every run and for every tiling.
//
// A chunk of 32 output pixels at a time, and of their points a round of kRound, the block's threads first write down
// where each point's four neighbours lie in the tile and what they weigh. Then each owner goes through the pixels that
// touch its columns, and one step of its lanes adds one point's whole contribution. No two lanes and no two owners ever
// meet in one element. Columns and not rows are what owners divide, because a chunk has few rows but many columns.
#pragma once
#include "plane.cuh"

namespace dcnv3::cuda {

// ---- a chunk, written down ----

template <typename S>
DCNV3_HOST_DEVICE void copy_gradients(const PlaneCall& p, const Tile& tile, int chunk, int thread,
                                      const PlaneMemory<S>& memory) {
  using T = typename S::T;
  for (int i = thread; i < kChunk * S::kRuns; i += p.warps * 32) {
    const int pixel = i / S::kRuns, first = i % S::kRuns * S::kRun;
    const int left = pixel_exists(p.c, chunk, pixel) ? tile.channels - first : 0;
    const int64_t in_batch = tile.n * p.c.g.ho * p.c.g.wo + static_cast<int64_t>(chunk) * kChunk + pixel;
    const T* from = static_cast<const T*>(p.c.t.grad) + tile.channel + first +
                    (in_batch * p.c.g.groups + tile.group) * p.c.g.group_channels;
    typename S::Run run{};
    if (p.whole_runs && left > 0) {
      const Pack<T, S::kRun> pack = read_pack<T, S::kRun>(from);
#pragma unroll
      for (int v = 0; v < S::kRun; ++v) run.raw[v] = pack[v];
    } else {
#pragma unroll
      for (int v = 0; v < S::kRun; ++v) {
        if (v < left) run.raw[v] = read_pack<T, 1>(from + v)[0];
      }
    }
    *reinterpret_cast<typename S::Run*>(memory.grads + i * S::kRun) = run;
  }
}

// One point's four entries. Returns the columns of the tile that they touch.
template <typename S>
DCNV3_HOST_DEVICE Span write_point(const PlaneCall& p, const Tile& tile, const Points<typename S::A, 1>& point,
                                   Entry<typename S::A>* to) {
  using A = typename S::A;
  const Neighbours<A> near = neighbours(point.px[0], point.py[0], p.c.g);
  const int x = near.x.cell - kFirstCell<A> - tile.x0, y = near.y.cell - kFirstCell<A> - tile.y0;
  Span columns{tile.width, -1};
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const int column = x + corner / 2, row = y + corner % 2;
    const A weight = point.weight[0] * near.y.share[corner % 2] * near.x.share[corner / 2];
    const bool counts = weight != 0 && column >= 0 && column < tile.width && row >= 0 && row < tile.height;
    to[corner] = {weight, counts ? (column * tile.height + row) * S::kChannels : -1};
    if (counts) columns = joined(columns, {column, column});
  }
  return columns;
}

// Every `parts`-th point of one pixel, from `part` on, of the round that begins at window position `first`.
template <typename S>
DCNV3_HOST_DEVICE void write_entries(const PlaneCall& p, const Tile& tile, int chunk, int first, int pixel, int part,
                                     const Slot& s, const Normaliser<typename S::A>& norm,
                                     const PlaneMemory<S>& memory) {
  using A = typename S::A;
  Span columns{tile.width, -1};
  for (int r = part; r < kRound; r += p.warps) {
    Entry<A>* to = memory.entries + (pixel * kRound + r) * 4;
    const int full = first + r;
    if (pixel_exists(p.c, chunk, pixel) && full < p.c.g.kernel * p.c.g.kernel && !is_removed<0>(p.c.g, full)) {
      columns = joined(columns, write_point<S>(p, tile, points_of<typename S::T, 0, 1>(p.c, s, full, norm), to));
    } else {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) to[corner] = {A(0), -1};
    }
  }
  memory.columns[part * kChunk + pixel] = columns;
}

// ---- the adding up ----

template <typename S>
DCNV3_HOST_DEVICE bool pixel_touches(const PlaneCall& p, const Span& own, int pixel, const PlaneMemory<S>& memory) {
  bool touches = false;
#pragma unroll
  for (int part = 0; part < kMaxWarps; ++part) {
    if (part >= p.warps) break;
    const Span columns = memory.columns[part * kChunk + pixel];
    touches |= columns.first <= own.last && columns.last >= own.first;
  }
  return touches;
}

// What one of an owner's lanes adds for one pixel: lane / kRuns says which neighbour of each point, lane % kRuns which
// run of channels.
template <typename S>
struct LaneShare {
  Entry<typename S::A> entry[kRound];
  typename S::Run grad;
};

template <typename S>
DCNV3_HOST_DEVICE LaneShare<S> lane_share(int pixel, int lane, const PlaneMemory<S>& memory) {
  LaneShare<S> share;
#pragma unroll
  for (int r = 0; r < kRound; ++r) share.entry[r] = memory.entries[(pixel * kRound + r) * 4 + lane / S::kRuns];
  const auto* runs = reinterpret_cast<const typename S::Run*>(memory.grads);
  share.grad = runs[pixel * S::kRuns + lane % S::kRuns];
  return share;
}

// The elements of a span of columns, as the tile lies: `first` to before `first + count`.
struct Elements {
  int32_t first;
  uint32_t count;
};

template <typename S>
DCNV3_HOST_DEVICE Elements elements_of(const Tile& tile, const Span& columns) {
  const int column = tile.height * S::kChannels;
  return {columns.first * column, static_cast<uint32_t>((columns.last - columns.first + 1) * column)};
}

template <typename S>
DCNV3_HOST_DEVICE bool owns(const Elements& own, const Entry<typename S::A>& entry) {
  return static_cast<uint32_t>(entry.at - own.first) < own.count;
}

template <typename S>
DCNV3_HOST_DEVICE void add_entry(const Elements& own, int lane, const Entry<typename S::A>& entry,
                                 const typename S::Run& grad, const PlaneMemory<S>& memory) {
  if (!owns<S>(own, entry)) return;
  auto* sum = reinterpret_cast<typename S::Run*>(memory.tile + entry.at + lane % S::kRuns * S::kRun);
  typename S::Run run = *sum;
#pragma unroll
  for (int v = 0; v < S::kRun; ++v) run.raw[v] += entry.weight * grad.raw[v];
  *sum = run;
}

// ---- the tile's beginning and end ----

template <typename S>
DCNV3_HOST_DEVICE void clear_tile(const PlaneCall& p, const Tile& tile, int thread, const PlaneMemory<S>& memory) {
  auto* runs = reinterpret_cast<typename S::Run*>(memory.tile);
  for (int i = thread; i < tile.width * tile.height * S::kRuns; i += p.warps * 32) runs[i] = {};
}

template <typename S>
DCNV3_HOST_DEVICE void write_tile(const PlaneCall& p, const Tile& tile, int warp, int lane,
                                  const PlaneMemory<S>& memory) {
  using T = typename S::T;
  const int first = lane % S::kRuns * S::kRun, left = tile.channels - first;
  for (int y = warp; y < tile.height; y += p.warps) {
    for (int x = lane / S::kRuns; x < tile.width; x += 32 / S::kRuns) {
      const int64_t pixel = (tile.n * p.c.g.h + tile.y0 + y) * p.c.g.w + tile.x0 + x;
      T* to = static_cast<T*>(p.c.t.grad_x) + tile.channel + first +
              (pixel * p.c.g.groups + tile.group) * p.c.g.group_channels;
      const auto& run =
          *reinterpret_cast<const typename S::Run*>(memory.tile + (x * tile.height + y) * S::kChannels + first);
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
// One warp to a chunk and group.
template <typename T>
__global__ void __launch_bounds__(kBlock) boxes_kernel(const __grid_constant__ Call c, Box* boxes, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMaxWarps + threadIdx.x / 32;
  if (index >= count) return;
  const int64_t run = index / c.g.groups, n = run / chunks_of(c);
  const Box own = box_of_pixel<T>(c, n, static_cast<int>(run - n * chunks_of(c)),
                                  static_cast<int>(index - run * c.g.groups), threadIdx.x % 32);
  constexpr unsigned kAll = 0xffffffffu;
  const Box box{{__reduce_min_sync(kAll, own.x.first), __reduce_max_sync(kAll, own.x.last)},
                {__reduce_min_sync(kAll, own.y.first), __reduce_max_sync(kAll, own.y.last)}};
  if (threadIdx.x % 32 == 0) boxes[index] = box;
}

// The first chunk from `chunk` on that reaches the tile, the same in every warp.
__device__ __forceinline__ int next_chunk(const PlaneCall& p, const Tile& tile, int chunk, int lane) {
  if (!p.boxes) return chunk;
  for (; chunk < chunks_of(p.c); chunk += 32) {
    const unsigned reach = __ballot_sync(0xffffffffu, chunk_reaches(p, tile, chunk + lane));
    if (reach) return chunk + __ffs(static_cast<int>(reach)) - 1;
  }
  return chunk;
}

// `normaliser`, by the `parts` neighbouring lanes that share a pixel.
template <typename T>
__device__ __forceinline__ Normaliser<Arithmetic<T>> shared_normaliser(const Call& c, const Slot& s, int part,
                                                                       int parts) {
  using A = Arithmetic<T>;
  if (!c.g.softmax) return {0, 1};
  return with_weight_type<T>(c, [&](auto* type) -> Normaliser<A> {
    using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
    const M* mask = weight_rows<M>(c, s).mask;
    A shift = -kInfinity<A>, sum = 0;
    for (int k = part; k < c.g.points; k += parts) shift = larger(shift, read_weight(mask + k));
    for (int step = parts / 2; step > 0; step /= 2) shift = larger(shift, __shfl_xor_sync(0xffffffffu, shift, step));
    for (int k = part; k < c.g.points; k += parts) sum += exponential(read_weight(mask + k) - shift);
    for (int step = parts / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return {shift, reciprocal(sum)};
  });
}

template <typename S>
__device__ __forceinline__ void add_chunk(const PlaneCall& p, const Tile& tile, int warp, int lane,
                                          const PlaneMemory<S>& memory) {
  Elements own{};
  unsigned pixels = 0;
  int steps = 0;
#pragma unroll
  for (int i = 0; i < S::kOwners; ++i) {
    const Span columns = own_columns(tile, warp * S::kOwners + i, owners_of<S>(p));
    const unsigned touching = __ballot_sync(0xffffffffu, pixel_touches(p, columns, lane, memory));
    steps = max(steps, __popc(touching));
    if (lane / S::kOwnerLanes != i) continue;
    own = elements_of<S>(tile, columns), pixels = touching;
  }
  for (int step = 0; step < steps; ++step, pixels &= pixels - 1) {
    if (!pixels) own.count = 0;  // this owner is done, the warp's other one is not
    const int pixel = pixels ? __ffs(static_cast<int>(pixels)) - 1 : 0;
    const LaneShare<S> share = lane_share(pixel, lane % S::kOwnerLanes, memory);
#pragma unroll
    for (int r = 0; r < kRound; ++r) {
      add_entry<S>(own, lane, share.entry[r], share.grad, memory);
      __syncwarp();  // in the next point another lane may hold the element that this one has just written
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(kBlock) grad_x_kernel(const __grid_constant__ PlaneCall p) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int pixel = thread / p.warps, part = thread % p.warps;
  const Tile tile = tile_at<S>(p, blockIdx.x);
  const PlaneMemory<S> memory(shared, static_cast<int64_t>(p.tile_w) * p.tile_h);
  clear_tile(p, tile, thread, memory);
  const int chunks = chunks_of(p.c), positions = p.c.g.kernel * p.c.g.kernel;
  for (int chunk = next_chunk(p, tile, 0, lane); chunk < chunks; chunk = next_chunk(p, tile, chunk + 1, lane)) {
    const Slot s = slot_in_chunk(p.c, tile.n, tile.group, chunk, pixel);
    copy_gradients(p, tile, chunk, thread, memory);
    const Normaliser<typename S::A> norm = shared_normaliser<typename S::T>(p.c, s, part, p.warps);
    for (int first = 0; first < positions; first += kRound) {
      write_entries(p, tile, chunk, first, pixel, part, s, norm, memory);
      __syncthreads();
      add_chunk(p, tile, warp, lane, memory);
      __syncthreads();
    }
  }
  __syncthreads();
  write_tile(p, tile, warp, lane, memory);
}
#endif

}  // namespace dcnv3::cuda
