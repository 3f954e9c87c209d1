// A block: kBlock consecutive output pixels of one group, their mask weights and sampling positions. In its arrays the
// values of the pixels are consecutive (a pixel is a lane), so that each step is one loop over lanes without a branch.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu_vector.h"
#include "geometry.h"

namespace dcnv3::cpu {

// The output pixels of a block. `first` is an index over all images; `image` is the task's first image.
struct Span {
  int64_t first, image;
  int count;
};

template <typename A>
struct Block {
  Block() = default;
  A origin_x[kBlock], origin_y[kBlock];
  int32_t image_pixel[kBlock];  // first input pixel of the lane's image, counted from the task's first image

  // Computes each lane's position without grid and offset. Lanes beyond the end repeat the last pixel.
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

// Softmax over the points of each lane, in place.
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

// Loads offset and mask of a block as [value][lane], and applies the softmax to the mask if there is one.
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

// A point's position on the regular grid: what `sample_position` adds to the origin, without offset and scale.
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

// For one point of every lane, computes the index of its upper left neighbor, counted from the task's first input
// pixel, and the weight of each corner (upper left, upper right, lower left, lower right). `offset` holds the x and
// then the y of all lanes; with kDistances they are overwritten by the distances from that neighbor.
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
