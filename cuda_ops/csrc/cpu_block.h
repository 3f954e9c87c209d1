// A block: kBlock consecutive output pixels of one group, their mask weights and where they sample. Its arrays hold one
// value of every pixel side by side, so that each step is one loop over lanes without a branch.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu_vector.h"
#include "geometry.h"

namespace dcnv3::cpu {

// Where a block's output pixels lie: `first` counts over all images, and `image` is the first of the task.
struct Span {
  int64_t first, image;
  int count;
};

template <typename A>
struct Block {
  Block() = default;
  A origin_x[kBlock], origin_y[kBlock];
  int32_t image_pixel[kBlock];  // first input pixel of the lane's image, counted from the task's first image

  // Position of each lane's output pixel, without the window. Lanes past the end repeat the last pixel.
  Block(const Geometry& g, const Span& span) {
    const int64_t half = g.dilation * (g.kernel - 1) / 2, area = g.ho * g.wo;
    int64_t image = span.first / area, oy = span.first % area / g.wo, ox = span.first % g.wo;
    for (int b = 0; b < kBlock; ++b) {
      origin_x[b] = static_cast<A>(ox * g.stride - g.pad + half);
      origin_y[b] = static_cast<A>(oy * g.stride - g.pad + half);
      image_pixel[b] = static_cast<int32_t>((image - span.image) * g.h * g.w);
      if (b + 1 >= span.count) continue;
      if (++ox == g.wo) ox = 0, ++oy;
      if (oy == g.ho) oy = 0, ++image;
    }
  }
};

// Over the points, lane by lane, in place.
template <typename A>
DCNV3_INLINE void softmax(A* mask, int points) {
  A highest[kBlock], total[kBlock];
  std::copy(mask, mask + kBlock, highest);
  for (int k = 1; k < points; ++k)
    for (int b = 0; b < kBlock; ++b)
      highest[b] = mask[k * kBlock + b] > highest[b] ? mask[k * kBlock + b] : highest[b];
  std::fill(total, total + kBlock, A(0));
  for (int k = 0; k < points; ++k)
    for (int b = 0; b < kBlock; ++b) total[b] += mask[k * kBlock + b] = exp_negative(mask[k * kBlock + b] - highest[b]);
  for (int b = 0; b < kBlock; ++b) total[b] = 1 / total[b];
  for (int k = 0; k < points; ++k)
    for (int b = 0; b < kBlock; ++b) mask[k * kBlock + b] *= total[b];
}

// Offset and mask of a block, one value after the other: the mask after the softmax where there is one.
template <int kPoints, typename A, typename M>
void load_weights(const Geometry& g, const M* offset, const M* mask, int64_t group, const Span& span, A* offsets,
                  A* masks) {
  const int points = kPoints > 0 ? kPoints : g.points;
  offset += span.first * g.offset_stride + group * points * 2;
  mask += span.first * g.mask_stride + group * points;
  load_transposed(offset, g.offset_stride, span.count, points * 2, offsets);
  load_transposed(mask, g.mask_stride, span.count, points, masks);
  if (g.softmax) softmax(masks, points);
}

// What `sample_position` adds to a lane's origin for one point, but for the offset.
template <typename A>
struct Tap {
  A x, y;

  Tap() = default;
  Tap(const Geometry& g, int k) {
    const GridPoint point = grid_point(k, g.kernel, g.remove_center);
    const int half = g.dilation * (g.kernel - 1) / 2;
    x = static_cast<A>(point.i * g.dilation - half), y = static_cast<A>(point.j * g.dilation - half);
  }
};

// One point of every lane: its upper left neighbour, counted from the task's first input pixel, and what each corner
// counts (upper left, upper right, lower left, lower right). `offset` holds the x and then the y of all lanes; with
// kDistances the distances from that neighbour take their place.
template <bool kDistances, typename A>
DCNV3_INLINE void sample_point(const Geometry& g, const Tap<A> tap, const Block<A>& block,
                               std::conditional_t<kDistances, A, const A>* offset, const A* mask, int32_t* pixel,
                               A* weight) {
  const int width = static_cast<int>(g.w), height = static_cast<int>(g.h);
  const A scale = static_cast<A>(g.offset_scale);
#pragma GCC ivdep
  for (int b = 0; b < kBlock; ++b) {
    const auto x = axis_neighbours(block.origin_x[b] + (tap.x + offset[b]) * scale, width);
    const auto y = axis_neighbours(block.origin_y[b] + (tap.y + offset[kBlock + b]) * scale, height);
    const A upper = y.share[0] * mask[b], lower = y.share[1] * mask[b];
    pixel[b] = block.image_pixel[b] + y.base * width + x.base;
    weight[0 * kBlock + b] = upper * x.share[0];
    weight[1 * kBlock + b] = upper * x.share[1];
    weight[2 * kBlock + b] = lower * x.share[0];
    weight[3 * kBlock + b] = lower * x.share[1];
    if constexpr (kDistances) offset[b] = x.distance, offset[kBlock + b] = y.distance;
  }
}

}  // namespace dcnv3::cpu
