// How the gradient of x is divided: each block has a tile, and each owner within a block has columns of the tile.
#pragma once
#include "sample.cuh"

namespace dcnv3::cuda {

inline constexpr int kChunk = 32;  // output pixels that are processed at a time, one per lane
inline constexpr int kRound = 9;   // points per pixel and step
inline constexpr int kMaxWarps = 4;

// The channels of a tile: kRuns runs of 128 bits, 16 or 32 channels in total. An owner has a lane for each run of each
// of the four neighbors of a point.
template <typename T_, int kRuns_>
struct Slice {
  using T = T_;
  using A = Arithmetic<T>;
  static constexpr int kRuns = kRuns_, kRun = 16 / static_cast<int>(sizeof(A)), kChannels = kRuns * kRun;
  static constexpr int kOwnerLanes = 4 * kRuns, kOwners = 32 / kOwnerLanes;  // per warp
  using Run = Pack<A, kRun>;
};

struct Span {
  int32_t first, last;  // empty if first > last
};

// The columns and rows of x that the samples of a chunk touch, in one group. Aligned to be read at once.
struct alignas(16) Box {
  Span x, y;
};

// A tile has `tile_w` x `tile_h` pixels and a slice of channels; fewer at the image's edge and at the group's end.
// Blocks are numbered with group fastest, then slice, column of tiles, row of tiles, image.
struct PlaneCall {
  Call c;
  int tile_w, tile_h, tiles_x, tiles_y, slices;
  int warps;          // that add; one more warp writes the next step
  int owner_columns;  // of each owner of a tile; the last ones may have fewer, or none
  bool whole_runs;    // a run of channels is read and written as one pack
  const Box* boxes;   // [image][chunk][group]; null if one tile covers the image
};

struct Tile {
  int64_t n;
  int group, channel, channels, x0, y0, width, height;  // `channel` is an index within the group
};

template <typename S>
DCNV3_HOST_DEVICE Tile tile_at(const PlaneCall& p, uint32_t block) {
  const auto take = [&block](int64_t size) {
    const uint32_t count = static_cast<uint32_t>(size), index = block % count;
    block /= count;
    return static_cast<int>(index);
  };
  const auto least = [](int64_t a, int64_t b) { return static_cast<int>(a < b ? a : b); };
  Tile tile;
  tile.group = take(p.c.g.groups);
  tile.channel = take(p.slices) * S::kChannels;
  tile.x0 = take(p.tiles_x) * p.tile_w;
  tile.y0 = take(p.tiles_y) * p.tile_h;
  tile.n = block;
  tile.channels = least(p.c.g.group_channels - tile.channel, S::kChannels);
  tile.width = least(p.c.g.w - tile.x0, p.tile_w);
  tile.height = least(p.c.g.h - tile.y0, p.tile_h);
  return tile;
}

template <typename A>
struct Entry {
  A weight;
  int32_t at;  // the pixel's distance from the tile's begin in bytes, or -1 for none
};

// The data of one step: the points and the gradient of each of kChunk pixels. Between two pixels there are 16 bytes, so
// that the lanes of a warp, which write one pixel each, use different banks.
template <typename S>
struct Page {
  using A = typename S::A;
  static constexpr int64_t kGap = 16, kPixelEntries = sizeof(Entry<A>) * kRound * 4 + kGap;
  static constexpr int64_t kPixelGrads = sizeof(A) * S::kChannels + kGap;
  static constexpr int64_t kPixel = kPixelEntries + kPixelGrads + sizeof(Span);
  static constexpr int64_t kBytes = kChunk * kPixel + 16;

  char* memory;

  // The entries of a pixel, [kRound][4].
  DCNV3_HOST_DEVICE Entry<A>* entries(int pixel) const {
    return reinterpret_cast<Entry<A>*>(memory + pixel * static_cast<int>(kPixelEntries));
  }
  DCNV3_HOST_DEVICE typename S::Run* grads(int pixel) const {
    return reinterpret_cast<typename S::Run*>(memory + kChunk * kPixelEntries + pixel * static_cast<int>(kPixelGrads));
  }
  // The columns of the tile that a pixel's points may touch.
  DCNV3_HOST_DEVICE Span& columns(int pixel) const {
    return reinterpret_cast<Span*>(memory + kChunk * (kPixelEntries + kPixelGrads))[pixel];
  }
  // Whether there is such a step; false after the last.
  DCNV3_HOST_DEVICE bool& exists() const { return *reinterpret_cast<bool*>(memory + kChunk * kPixel); }
};

// The shared memory: the tile as [column][row][channel], and two pages, one of which is written while the other is
// added to the tile.
template <typename S>
struct PlaneMemory {
  using A = typename S::A;
  A* tile;
  char* pages;

  DCNV3_HOST_DEVICE PlaneMemory(void* memory, int64_t pixels)
      : tile(static_cast<A*>(memory)), pages(reinterpret_cast<char*>(tile + pixels * S::kChannels)) {}

  DCNV3_HOST_DEVICE Page<S> page(int which) const { return {pages + which * static_cast<int>(Page<S>::kBytes)}; }

  static constexpr int64_t bytes(int64_t pixels) {
    return static_cast<int64_t>(sizeof(A)) * S::kChannels * pixels + 2 * Page<S>::kBytes;
  }
};

DCNV3_HOST_DEVICE Span own_columns(const PlaneCall& p, const Tile& tile, int owner) {
  const int share = p.owner_columns, first = owner * share;
  if (first >= tile.width) return {tile.width, tile.width - 1};
  return {first, first + share < tile.width ? first + share - 1 : tile.width - 1};
}

// ---- which chunks reach a tile ----

// A round of one chunk's points, from kernel position `first` on.
struct Step {
  int chunk, first;
};

// A chunk has every 2^n-th of 32 * 2^n consecutive pixels, so that it covers a row of up to 128: with pixels that are
// close together most owners would have none. n depends on the output's width alone and not on the tiles.
inline int chunk_spread(const Geometry& g) { return g.wo <= 16 ? 0 : g.wo <= 32 ? 1 : 2; }

// The number of chunks, a multiple of 2^n. The last ones may have fewer pixels, or none.
DCNV3_HOST_DEVICE int chunks_of(const Call& c) {
  const uint32_t pixels = kChunk << c.chunk_spread;
  return static_cast<int>((c.image_pixels + pixels - 1) / pixels << c.chunk_spread);
}

// The index of a chunk's pixel in the image; it may be beyond the last.
DCNV3_HOST_DEVICE uint32_t index_in_image(const Call& c, int chunk, int pixel) {
  const uint32_t first = static_cast<uint32_t>(chunk), within = first & ((1u << c.chunk_spread) - 1);
  return (((first >> c.chunk_spread) * kChunk + static_cast<uint32_t>(pixel)) << c.chunk_spread) + within;
}

DCNV3_HOST_DEVICE int64_t box_at(const Call& c, int64_t n, int chunk, int group) {
  return (n * chunks_of(c) + chunk) * c.g.groups + group;
}

DCNV3_HOST_DEVICE bool chunk_reaches(const PlaneCall& p, const Tile& tile, int chunk) {
  if (chunk >= chunks_of(p.c)) return false;
  const Box box = p.boxes[box_at(p.c, tile.n, chunk, tile.group)];
  // Without a branch, which would read one number after the other.
  return (box.x.first < tile.x0 + tile.width) & (box.x.last >= tile.x0) & (box.y.first < tile.y0 + tile.height) &
         (box.y.last >= tile.y0);
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

// The slot of a chunk's pixel, or of the image's last pixel if the chunk has fewer.
DCNV3_HOST_DEVICE Slot slot_in_chunk(const Call& c, int64_t n, int group, int chunk, int pixel) {
  const uint32_t last = c.image_pixels - 1, in_image = index_in_image(c, chunk, pixel);
  return slot_of_pixel(c, n, group, in_image < last ? in_image : last);
}

DCNV3_HOST_DEVICE bool pixel_exists(const Call& c, int chunk, int pixel) {
  return index_in_image(c, chunk, pixel) < c.image_pixels;
}

DCNV3_HOST_DEVICE Span joined(const Span& a, const Span& b) {
  return {a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last};
}

template <typename T, int kKernel>
DCNV3_HOST_DEVICE Box box_of_pixel(const Call& c, int64_t n, int chunk, int group, int pixel) {
  using A = Arithmetic<T>;
  constexpr int N = kBatch<kKernel>;
  const Slot s = slot_in_chunk(c, n, group, chunk, pixel);
  const int positions = kernel_size<kKernel>(c.g) * kernel_size<kKernel>(c.g);
  Box box{{INT32_MAX, INT32_MIN}, {INT32_MAX, INT32_MIN}};
#pragma unroll 1
  for (int first = 0; first < positions; first += N) {
    const Points<A, N> points = points_of<T, kKernel, N>(c, s, first, {0, 1});  // their weights are not used
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (is_removed<kKernel>(c.g, first + i)) continue;
      const int x = axis_at(points.px[i], c.g.w).cell - kFirstCell<A>;
      const int y = axis_at(points.py[i], c.g.h).cell - kFirstCell<A>;
      box = {joined(box.x, {x, x + 1}), joined(box.y, {y, y + 1})};
    }
  }
  return box;
}

}  // namespace dcnv3::cuda
