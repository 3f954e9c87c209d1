// The gradient of x without atomics: a block owns a tile of one (image, group) plane of it in shared memory, goes
// through the image's output pixels that reach the tile, and writes the tile once. Every element is summed in the order
// of output pixels and points, so the result is the same on every run and for every tiling.
//
// In chunks of 32 output pixels, and rounds of kRound points, the block's threads first write down where each point's
// four neighbours lie in the tile and what they weigh. Then each warp, owner of some columns of the tile, goes through
// the pixels that touch its columns: its lanes are 4 neighbours x 8 runs of kRun channels, so that one step adds one
// point's whole contribution, and no two lanes, and no two warps, ever meet in one element. Columns and not rows are what
// the warps divide, because a chunk belongs to few rows but to many columns.
#pragma once
#include "sample.cuh"

namespace dcnv3::cuda {

inline constexpr int kChunk = 32, kRound = 9, kRuns = 8, kMaxWarps = kBlock / 32;

struct Span {
  int32_t first, last;  // none where first > last
};

// The columns and rows of x that a chunk's samples touch, in one group.
struct Box {
  Span x, y;
};

// A tile has `tile_w` x `tile_h` pixels, or less at the image's edge, and a slice of kRuns * kRun channels, or less at
// the group's end. Blocks are numbered group fastest, then slice, column of tiles, row of tiles, image.
struct PlaneCall {
  Call c;
  int tile_w, tile_h, tiles_x, tiles_y, slices, warps;
  bool whole_runs;   // a run of channels is read and written as one pack
  const Box* boxes;  // [image][chunk][group]; null where one tile covers the image
};

struct Tile {
  int64_t n;
  int group, channel, channels, x0, y0, width, height;  // `channel` counts within the group
};

template <int kRun>
DCNV3_HOST_DEVICE Tile tile_at(const PlaneCall& p, uint32_t block) {
  const auto take = [&block](int64_t size) {
    const uint32_t count = static_cast<uint32_t>(size), index = block % count;
    block /= count;
    return static_cast<int>(index);
  };
  const auto least = [](int64_t a, int64_t b) { return static_cast<int>(a < b ? a : b); };
  Tile tile;
  tile.group = take(p.c.g.groups);
  tile.channel = take(p.slices) * kRuns * kRun;
  tile.x0 = take(p.tiles_x) * p.tile_w;
  tile.y0 = take(p.tiles_y) * p.tile_h;
  tile.n = block;
  tile.channels = least(p.c.g.group_channels - tile.channel, kRuns * kRun);
  tile.width = least(p.c.g.w - tile.x0, p.tile_w);
  tile.height = least(p.c.g.h - tile.y0, p.tile_h);
  return tile;
}

template <typename A>
struct Entry {
  A weight;
  int32_t at;  // element of the tile, -1 for none
};

// The tile lies by columns, [column][row][kRuns * kRun channels], then come the entries of a round, the output's
// gradient in a chunk, and the columns that a chunk's points touch, as far as each warp wrote them down.
template <typename A, int kRun>
struct PlaneMemory {
  A* tile;
  Entry<A>* entries;  // [kChunk][kRound][4]
  A* grads;           // [kChunk][kRuns * kRun]
  Span* columns;      // [kMaxWarps][kChunk]

  DCNV3_HOST_DEVICE PlaneMemory(void* memory, int64_t pixels)
      : tile(static_cast<A*>(memory)),
        entries(reinterpret_cast<Entry<A>*>(tile + pixels * kRuns * kRun)),
        grads(reinterpret_cast<A*>(entries + kChunk * kRound * 4)),
        columns(reinterpret_cast<Span*>(grads + kChunk * kRuns * kRun)) {}

  static constexpr int64_t bytes(int64_t pixels) {
    return static_cast<int64_t>(sizeof(A)) * kRuns * kRun * (pixels + kChunk) +
           static_cast<int64_t>(sizeof(Entry<A>)) * kChunk * kRound * 4 +
           static_cast<int64_t>(sizeof(Span)) * kMaxWarps * kChunk;
  }
};

// ---- which chunks ----

DCNV3_HOST_DEVICE int chunks_of(const Call& c) { return static_cast<int>((c.g.ho * c.g.wo + kChunk - 1) / kChunk); }

DCNV3_HOST_DEVICE int64_t box_at(const Call& c, int64_t n, int chunk, int group) {
  return (n * chunks_of(c) + chunk) * c.g.groups + group;
}

DCNV3_HOST_DEVICE bool chunk_reaches(const PlaneCall& p, const Tile& tile, int chunk) {
  if (chunk >= chunks_of(p.c)) return false;
  const Box box = p.boxes[box_at(p.c, tile.n, chunk, tile.group)];
  return box.x.first < tile.x0 + tile.width && box.x.last >= tile.x0 && box.y.first < tile.y0 + tile.height &&
         box.y.last >= tile.y0;
}

DCNV3_HOST_DEVICE Slot slot_of_pixel(const Call& c, int64_t n, int group, uint32_t in_image) {
  Slot s;
  s.lane = 0, s.lanes = 1, s.group = group, s.n = n;
  s.oy = static_cast<int>(c.wo.quotient(in_image));
  s.ox = static_cast<int>(in_image - s.oy * c.wo.divisor);
  s.pixel = n * c.g.ho * c.g.wo + in_image;
  s.pair = s.pixel * c.g.groups + group;
  return s;
}

// ---- what a chunk adds, written down ----

template <typename T, int kRun>
DCNV3_HOST_DEVICE void copy_gradients(const PlaneCall& p, const Tile& tile, int chunk, int thread,
                                      const PlaneMemory<Arithmetic<T>, kRun>& memory) {
  using A = Arithmetic<T>;
  const int64_t pixels = p.c.g.ho * p.c.g.wo;
  for (int i = thread; i < kChunk * kRuns; i += p.warps * 32) {
    const int64_t in_image = static_cast<int64_t>(chunk) * kChunk + i / kRuns;
    const int first = i % kRuns * kRun, left = in_image < pixels ? tile.channels - first : 0;
    const T* from = static_cast<const T*>(p.c.t.grad) + tile.channel + first +
                    ((tile.n * pixels + in_image) * p.c.g.groups + tile.group) * p.c.g.group_channels;
    A grads[kRun] = {};
    if (p.whole_runs && left > 0) {
      const Pack<T, kRun> pack = read_pack<T, kRun>(from);
#pragma unroll
      for (int v = 0; v < kRun; ++v) grads[v] = pack[v];
    } else {
#pragma unroll
      for (int v = 0; v < kRun; ++v) grads[v] = v < left ? read_pack<T, 1>(from + v)[0] : A(0);
    }
    write_pack<A, kRun>(memory.grads + i * kRun, grads);
  }
}

// One point's four entries. Returns the columns of the tile that they touch.
template <typename A, int kRun>
DCNV3_HOST_DEVICE Span write_point(const PlaneCall& p, const Tile& tile, const Points<A, 1>& point, Entry<A>* to) {
  const Neighbours<A> near = neighbours(point.px[0], point.py[0], p.c.g);
  const int x = near.x.cell - kFirstCell<A> - tile.x0, y = near.y.cell - kFirstCell<A> - tile.y0;
  Span columns{tile.width, -1};
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const int column = x + corner / 2, row = y + corner % 2;
    const A weight = point.weight[0] * near.y.share[corner % 2] * near.x.share[corner / 2];
    const bool counts = weight != 0 && column >= 0 && column < tile.width && row >= 0 && row < tile.height;
    to[corner] = {weight, counts ? (column * tile.height + row) * kRuns * kRun : -1};
    if (counts && column < columns.first) columns.first = column;
    if (counts && column > columns.last) columns.last = column;
  }
  return columns;
}

// The points of one pixel (`lane` of the chunk) that fall to one warp, of the round that begins at position `first`.
template <typename T, int kRun>
DCNV3_HOST_DEVICE void write_entries(const PlaneCall& p, const Tile& tile, int chunk, int first, int warp, int lane,
                                     const Normaliser<Arithmetic<T>>& norm,
                                     const PlaneMemory<Arithmetic<T>, kRun>& memory) {
  using A = Arithmetic<T>;
  const int64_t in_image = static_cast<int64_t>(chunk) * kChunk + lane;
  const bool exists = in_image < p.c.g.ho * p.c.g.wo;
  const Slot s = slot_of_pixel(p.c, tile.n, tile.group, exists ? static_cast<uint32_t>(in_image) : 0);
  Span columns{tile.width, -1};
  for (int r = warp; r < kRound; r += p.warps) {
    Entry<A>* to = memory.entries + (lane * kRound + r) * 4;
    const int full = first + r;
    if (exists && full < p.c.g.kernel * p.c.g.kernel && !is_removed<0>(p.c.g, full)) {
      const Span touched = write_point<A, kRun>(p, tile, points_of<T, 0, 1>(p.c, s, full, norm), to);
      columns.first = touched.first < columns.first ? touched.first : columns.first;
      columns.last = touched.last > columns.last ? touched.last : columns.last;
    } else {
      for (int corner = 0; corner < 4; ++corner) to[corner] = {A(0), -1};
    }
  }
  memory.columns[warp * kChunk + lane] = columns;
}

// ---- the adding up ----

DCNV3_HOST_DEVICE Span own_columns(const PlaneCall& p, const Tile& tile, int warp) {
  const int share = (tile.width + p.warps - 1) / p.warps, first = warp * share;
  if (first >= tile.width) return {tile.width, tile.width - 1};
  return {first, first + share < tile.width ? first + share - 1 : tile.width - 1};
}

template <typename A, int kRun>
DCNV3_HOST_DEVICE bool pixel_touches(const PlaneCall& p, const Span& own, int lane, const PlaneMemory<A, kRun>& memory) {
  bool touches = false;
#pragma unroll
  for (int warp = 0; warp < kMaxWarps; ++warp) {
    if (warp >= p.warps) break;
    const Span columns = memory.columns[warp * kChunk + lane];
    touches |= columns.first <= own.last && columns.last >= own.first;
  }
  return touches;
}

// What one lane adds for one pixel: lane / kRuns says which neighbour of each point, lane % kRuns which channels.
template <typename A, int kRun>
struct LaneShare {
  Entry<A> entry[kRound];
  Pack<A, kRun> grad;
};

template <typename A, int kRun>
DCNV3_HOST_DEVICE LaneShare<A, kRun> lane_share(int pixel, int lane, const PlaneMemory<A, kRun>& memory) {
  LaneShare<A, kRun> share;
#pragma unroll
  for (int r = 0; r < kRound; ++r) share.entry[r] = memory.entries[(pixel * kRound + r) * 4 + lane / kRuns];
  share.grad = *reinterpret_cast<const Pack<A, kRun>*>(memory.grads + (pixel * kRuns + lane % kRuns) * kRun);
  return share;
}

template <typename A, int kRun>
DCNV3_HOST_DEVICE void add_entry(const Tile& tile, const Span& own, int lane, const Entry<A>& entry,
                                 const Pack<A, kRun>& grad, const PlaneMemory<A, kRun>& memory) {
  const int column = tile.height * kRuns * kRun;
  if (static_cast<uint32_t>(entry.at - own.first * column) >=
      static_cast<uint32_t>((own.last - own.first + 1) * column)) {
    return;
  }
  auto* sum = reinterpret_cast<Pack<A, kRun>*>(memory.tile + entry.at + lane % kRuns * kRun);
  Pack<A, kRun> pack = *sum;
#pragma unroll
  for (int v = 0; v < kRun; ++v) pack.raw[v] += entry.weight * grad.raw[v];
  *sum = pack;
}

// ---- the tile's beginning and end ----

template <typename A, int kRun>
DCNV3_HOST_DEVICE void clear_tile(const PlaneCall& p, const Tile& tile, int thread, const PlaneMemory<A, kRun>& memory) {
  const A zeros[kRun] = {};
  for (int i = thread; i < tile.width * tile.height * kRuns; i += p.warps * 32) {
    write_pack<A, kRun>(memory.tile + i * kRun, zeros);
  }
}

template <typename T, int kRun>
DCNV3_HOST_DEVICE void write_tile(const PlaneCall& p, const Tile& tile, int warp, int lane,
                                  const PlaneMemory<Arithmetic<T>, kRun>& memory) {
  using A = Arithmetic<T>;
  const int first = lane % kRuns * kRun, left = tile.channels - first;
  for (int y = warp; y < tile.height; y += p.warps) {
    for (int x = lane / kRuns; x < tile.width; x += 32 / kRuns) {
      const int64_t pixel = (tile.n * p.c.g.h + tile.y0 + y) * p.c.g.w + tile.x0 + x;
      T* to = static_cast<T*>(p.c.t.grad_x) + (pixel * p.c.g.groups + tile.group) * p.c.g.group_channels +
              tile.channel + first;
      const A* sum = memory.tile + (x * tile.height + y) * kRuns * kRun + first;
      A values[kRun];
#pragma unroll
      for (int v = 0; v < kRun; ++v) values[v] = sum[v];
      if (p.whole_runs && left > 0) {
        write_pack<T, kRun>(to, values);
      } else {
#pragma unroll
        for (int v = 0; v < kRun; ++v) {
          if (v < left) to[v] = from_arithmetic<T>(values[v]);
        }
      }
    }
  }
}

// ---- which pixels a chunk's samples touch ----

DCNV3_HOST_DEVICE Span joined(const Span& a, const Span& b) {
  return {a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last};
}

// The box of one of a chunk's pixels; that of no pixel where the chunk ends before `lane`.
template <typename T>
DCNV3_HOST_DEVICE Box box_of_pixel(const Call& c, int64_t n, int chunk, int group, int lane) {
  using A = Arithmetic<T>;
  Box box{{INT32_MAX, INT32_MIN}, {INT32_MAX, INT32_MIN}};
  const int64_t in_image = static_cast<int64_t>(chunk) * kChunk + lane;
  if (in_image >= c.g.ho * c.g.wo) return box;
  const Slot s = slot_of_pixel(c, n, group, static_cast<uint32_t>(in_image));
  for (int full = 0; full < c.g.kernel * c.g.kernel; ++full) {
    if (is_removed<0>(c.g, full)) continue;
    const Points<A, 1> point = points_of<T, 0, 1>(c, s, full, {0, 1});
    const int x = axis_at(point.px[0], c.g.w).cell - kFirstCell<A>;
    const int y = axis_at(point.py[0], c.g.h).cell - kFirstCell<A>;
    box = {joined(box.x, {x, x + 1}), joined(box.y, {y, y + 1})};
  }
  return box;
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

template <typename A, int kRun>
__device__ __forceinline__ void add_chunk(const PlaneCall& p, const Tile& tile, int warp, int lane,
                                          const PlaneMemory<A, kRun>& memory) {
  const Span own = own_columns(p, tile, warp);
  unsigned pixels = __ballot_sync(0xffffffffu, pixel_touches(p, own, lane, memory));
  for (; pixels; pixels &= pixels - 1) {
    const int pixel = __ffs(static_cast<int>(pixels)) - 1;
    const LaneShare<A, kRun> share = lane_share(pixel, lane, memory);
#pragma unroll
    for (int r = 0; r < kRound; ++r) {
      add_entry(tile, own, lane, share.entry[r], share.grad, memory);
      __syncwarp();  // in the next point another lane may hold the element that this one has just written
    }
  }
}

template <typename T, int kRun>
__global__ void __launch_bounds__(kBlock) grad_x_kernel(const __grid_constant__ PlaneCall p) {
  using A = Arithmetic<T>;
  extern __shared__ __align__(16) unsigned char shared[];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const Tile tile = tile_at<kRun>(p, blockIdx.x);
  const PlaneMemory<A, kRun> memory(shared, static_cast<int64_t>(p.tile_w) * p.tile_h);
  clear_tile(p, tile, thread, memory);
  const int chunks = chunks_of(p.c), positions = p.c.g.kernel * p.c.g.kernel;
  for (int chunk = next_chunk(p, tile, 0, lane); chunk < chunks; chunk = next_chunk(p, tile, chunk + 1, lane)) {
    copy_gradients<T, kRun>(p, tile, chunk, thread, memory);
    const uint32_t last = static_cast<uint32_t>(p.c.g.ho * p.c.g.wo - 1), pixel = chunk * kChunk + lane;
    const Normaliser<A> norm =
        normaliser<T>(p.c, slot_of_pixel(p.c, tile.n, tile.group, pixel < last ? pixel : last));
    for (int first = 0; first < positions; first += kRound) {
      write_entries<T, kRun>(p, tile, chunk, first, warp, lane, norm, memory);
      __syncthreads();
      add_chunk(p, tile, warp, lane, memory);
      __syncthreads();
    }
  }
  __syncthreads();
  write_tile<T, kRun>(p, tile, warp, lane, memory);
}
#endif

}  // namespace dcnv3::cuda
