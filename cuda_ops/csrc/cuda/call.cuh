// The data of one launch: the tensors, the geometry, and the assignment of threads to work.
#pragma once
#include "numeric.cuh"

namespace dcnv3::cuda {

inline constexpr int kBlock = 128;

// Divides numbers below 2^31 by a number that is constant during a launch, with one multiplication and one shift. With
// p = 31 + ceil(log2 d), ceil(2^p / d) exceeds 2^p / d by less than d^-1 * 2^(p-31), too little to change the quotient.
struct Divisor {
  uint32_t divisor = 1, multiplier = 1u << 31, shift = 31;

  Divisor() = default;
  explicit Divisor(int64_t d) : divisor(static_cast<uint32_t>(d)) {
    while ((int64_t{1} << (shift - 31)) < d) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << shift) + d - 1) / d);
  }

  DCNV3_HOST_DEVICE uint32_t quotient(uint32_t n) const {
    return static_cast<uint32_t>((static_cast<uint64_t>(n) * multiplier) >> shift);
  }
};

// Device pointers; offset and mask have x's type or, with `float_weights`, float. Results that are not needed are null.
struct Tensors {
  const void *x, *offset, *mask, *grad;
  void *output, *grad_x, *grad_offset, *grad_mask;
  bool float_weights;
};

// A slot is the work of one thread: `lane` of the `lanes` threads that compute one pair of an output pixel and a group.
// Slots are numbered with lane fastest, then group, then pixel. A launch covers whole output rows from `first_row` on,
// few enough for 32-bit slots; products of a slot are 64 bits wide.
struct Call {
  Geometry g;
  Tensors t;
  int64_t first_row;
  uint32_t slots;
  int band_rows;  // of `slot_of_thread`: n, where a band has 2^n rows
  Divisor lanes, bundle, bundles, groups, wo, ho, kernel;  // `bundle` is the number of groups of a bundle
  // In packs of x: the sizes of a pixel, a row and a group, and the contribution of `kFirstCell` on both axes.
  int64_t pixel_packs, row_packs, first_cells;
  int group_packs;
  // Of an output image, for the gradient of x: its pixels, and the distance of a chunk's pixels as a power of two.
  uint32_t image_pixels;
  int chunk_spread;
  // In bytes of x: the distances to the right and to the lower neighbor; zero in an image of one column or row.
  int64_t step_x, step_y;
};

struct Slot {
  int lane, lanes, group, ox, oy;
  int64_t n, pixel, pair;  // pixel is an index over the batch, pair = pixel * groups + group
};

// The slot of a launch's thread. Threads are numbered with lane fastest, then the group within a bundle, the row within
// a band, the column, the bundle, and the band. So a warp reads whole sectors of x and adjacent groups of a pixel, and
// the pixels of a block are close together on both axes: their samples share more of x than those of pixels in a row.
DCNV3_HOST_DEVICE uint32_t slot_of_thread(const Call& c, uint32_t thread) {
  const uint32_t pair = c.lanes.quotient(thread), bundled = c.bundle.quotient(pair);  // `bundled` has no group
  const uint32_t column = bundled >> c.band_rows, run = c.wo.quotient(column), band = c.bundles.quotient(run);
  const uint32_t line = (band << c.band_rows) + (bundled & ((1u << c.band_rows) - 1));
  const uint32_t group = (run - band * c.bundles.divisor) * c.bundle.divisor + pair - bundled * c.bundle.divisor;
  const uint32_t pixel = line * c.wo.divisor + column - run * c.wo.divisor;
  return (pixel * c.groups.divisor + group) * c.lanes.divisor + thread - pair * c.lanes.divisor;
}

DCNV3_HOST_DEVICE Slot slot_at(const Call& c, uint32_t index) {
  const uint32_t pair = c.lanes.quotient(index), pixel = c.groups.quotient(pair), line = c.wo.quotient(pixel);
  const uint32_t row = static_cast<uint32_t>(c.first_row) + line, image = c.ho.quotient(row);
  Slot s;
  s.lanes = static_cast<int>(c.lanes.divisor);
  s.lane = static_cast<int>(index - pair * c.lanes.divisor);
  s.group = static_cast<int>(pair - pixel * c.groups.divisor);
  s.ox = static_cast<int>(pixel - line * c.wo.divisor);
  s.oy = static_cast<int>(row - image * c.ho.divisor);
  s.n = image;
  s.pixel = c.first_row * c.g.wo + pixel;
  s.pair = s.pixel * c.g.groups + s.group;
  return s;
}

// One thread's channels of a group: L packs of V channels; thread t has packs t, t + lanes, ...
//
// If L is 2, every other four threads read their two packs in the opposite order. Then the eight threads of
// one pass of a 128-bit load use eight different bank groups of L1. At C' = 16 a group is 64 bytes in float and 32 in
// half precision, and a row of banks is 128 bytes; in the plain order the second four threads would use the banks of
// the first four. The order, and so the rounding of sums over channels, depends only on the position in the image, not
// on the image's position in the batch. A pack beyond the end of the group is read as the first one and not used.
template <int L>
struct OwnPacks {
  int pack[L];
  bool valid[L];
};

template <int L>
DCNV3_HOST_DEVICE OwnPacks<L> own_packs(const Call& c, const Slot& s, int first) {
  const int pair = (s.ox + s.oy) * static_cast<int>(c.bundle.divisor) + s.group;
  const int swapped = ((pair * s.lanes + s.lane) >> 2) & 1;
  OwnPacks<L> own;
#pragma unroll
  for (int l = 0; l < L; ++l) {
    const int pack = first + (L == 2 ? l ^ swapped : l) * s.lanes;
    own.valid[l] = pack < c.group_packs;
    own.pack[l] = own.valid[l] ? pack : 0;
  }
  return own;
}

}  // namespace dcnv3::cuda
