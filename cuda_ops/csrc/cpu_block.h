// A block: kBlock consecutive output pixels of one group, their mask weights and where they sample. Its arrays hold one
// value of every pixel side by side, so that each step is one loop over lanes without a branch.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu_vector.h"
#include "geometry.h"

namespace dcnv3::cpu {

// Where a task's output pixels lie: `first` counts over all images, and `image` is the first of the task.
struct Span {
  int64_t first, image;
  int count;
};

template <typename A>
struct Block {
  A origin_x[kBlock], origin_y[kBlock];
  int32_t image_pixel[kBlock];  // first input pixel of the lane's image, counted from the task's first image

  // Position of each lane's output pixel, without the window.
  void place(const Geometry& g, const Span& span) {
    const int64_t half = g.dilation * (g.kernel - 1) / 2, area = g.ho * g.wo;
    int64_t image = span.first / area, oy = span.first % area / g.wo, ox = span.first % g.wo;
    for (int b = 0; b < kBlock; ++b) {
      origin_x[b] = static_cast<A>(ox * g.stride - g.pad + half);
      origin_y[b] = static_cast<A>(oy * g.stride - g.pad + half);
      image_pixel[b] = static_cast<int32_t>((image - span.image) * g.h * g.w);
      if (b + 1 >= span.count) continue;  // lanes past the end repeat the last pixel
      if (++ox == g.wo) ox = 0, ++oy;
      if (oy == g.ho) oy = 0, ++image;
    }
  }
};

// Softmax over the points, lane by lane, in place.
template <typename A>
void softmax(A* mask, int points) {
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

// One point of every lane: its neighbours along both axes.
template <typename A>
struct Sample {
  int32_t pixel[kBlock];  // the upper left neighbour, counted from the task's first input pixel
  A share_x[2][kBlock], share_y[2][kBlock], slope_x[2][kBlock], slope_y[2][kBlock];
};

// Geometry of `sample_position` with all that does not depend on the lane computed once.
template <typename A>
struct Taps {
  A scale, left, top;
  int width, height;

  Taps(const Geometry& g, int k) : scale(static_cast<A>(g.offset_scale)), width(g.w), height(g.h) {
    const GridPoint point = grid_point(k, g.kernel, g.remove_center);
    const int half = g.dilation * (g.kernel - 1) / 2;
    left = static_cast<A>(point.i * g.dilation - half);
    top = static_cast<A>(point.j * g.dilation - half);
  }

  // `offset` holds the x and then the y of every lane.
  void sample(const Block<A>& block, const A* offset, Sample<A>& to) const {
#pragma GCC ivdep
    for (int b = 0; b < kBlock; ++b) {
      const auto x = axis_neighbours(block.origin_x[b] + (left + offset[b]) * scale, width);
      const auto y = axis_neighbours(block.origin_y[b] + (top + offset[kBlock + b]) * scale, height);
      to.pixel[b] = block.image_pixel[b] + y.base * width + x.base;
      for (int side = 0; side < 2; ++side) {
        to.share_x[side][b] = x.share[side], to.share_y[side][b] = y.share[side];
        to.slope_x[side][b] = x.slope[side], to.slope_y[side][b] = y.slope[side];
      }
    }
  }
};

}  // namespace dcnv3::cpu
