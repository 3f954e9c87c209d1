#pragma once
#include "cpu.h"
#include "cpu_block.h"
#include "cpu_plane.h"

namespace dcnv3::cpu {

// One point of every lane of a block: the dot products of the output pixel's gradient with the point's four corners,
// which are all that the gradients of offset and mask need. kRows is the number of rows of channels, 0 where it is only
// known at run time. Arguments are values, so that no store can be taken to change them.
template <int kRows, typename A>
void dot_corners(const Plane<A> plane, const int32_t* pixel, const A* lines, int64_t row_length, int count,
                 A* __restrict__ dots) {
  using Quarter = typename VectorOf<A>::quarter;
  const int64_t to_corner[4] = {0, plane.right, plane.below, plane.below + plane.right};
  const int64_t channels = kRows > 0 ? kRows * kRow<A> : row_length;
  for (int b = 0; b < count; b += 4) {  // lanes past the end of the span are harmless
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      DotVector<A> dot[4] = {};
      for (int lane = 0; lane < 4; ++lane) {
        const A* line = lines + (b + lane) * channels;
        const A* row = plane.pixels + pixel[b + lane] * plane.step + to_corner[corner];
        for (int64_t c = 0; c < channels; c += kDotLanes<A>)
          dot[lane] += *reinterpret_cast<const DotVector<A>*>(line + c) *
                       *reinterpret_cast<const DotVector<A>*>(row + c);
      }
      *reinterpret_cast<Quarter*>(dots + corner * kBlock + b) = sums<A>(dot);
    }
  }
}

template <typename A>
inline void add_to(A* at, A weight, const Row<A>& row) {
  Row<A> sum = Row<A>::load(at);
  sum.add_scaled(weight, row);
  sum.store(at);
}

// One point of every lane of a block: each corner receives its share of the output pixel's gradient. Lanes are the inner
// loop because neighbouring points of one pixel meet in the same corners, and each sum would wait for the one before.
template <int kRows, typename A>
void scatter(const Plane<A> plane, const int32_t* pixel, const A* lines, int64_t row_length, int count,
             const A* weight) {
  for (int b = 0; b < count; ++b, lines += row_length, ++weight) {
    A* corner = plane.pixels + pixel[b] * plane.step;
    for (int64_t c = 0; c < (kRows > 0 ? kRows * kRow<A> : row_length); c += kRow<A>) {
      const Row<A> row = Row<A>::load(lines + c);
      add_to(corner + c, weight[0 * kBlock], row);
      add_to(corner + c + plane.right, weight[1 * kBlock], row);
      add_to(corner + c + plane.below, weight[2 * kBlock], row);
      add_to(corner + c + plane.below + plane.right, weight[3 * kBlock], row);
    }
  }
}

template <typename X, typename M>
struct Backward {
  using A = Arithmetic<X>;
  const Geometry& g;
  const Plan<X> plan;
  const X *grad, *x;
  const M *offset, *mask;
  const Gradients<X, M>& to;

  // The arrays of one block, [point][...][lane].
  struct Arrays {
    Sample<A>* samples;
    A *mask, *weight, *dots, *offset, *lines;
  };

  int64_t width() const { return g.groups * g.group_channels; }
  bool wants_samples() const { return to.offset != nullptr || to.mask != nullptr; }
  int64_t plane_elements() const { return plan.images_per_task * g.h * g.w * plan.row_length; }
  int64_t block_elements() const {
    return g.points * (int64_t{sizeof(Sample<A>) / sizeof(A)} + 11 * kBlock) + kBlock * plan.row_length;
  }

  Arrays arrays(A* memory) const {
    Arrays to;
    to.dots = memory;
    to.weight = to.dots + 4 * g.points * kBlock;
    to.offset = to.weight + 4 * g.points * kBlock;
    to.mask = to.offset + 2 * g.points * kBlock;
    to.lines = to.mask + g.points * kBlock;
    to.samples = reinterpret_cast<Sample<A>*>(to.lines + kBlock * plan.row_length);
    return to;
  }

  void task(int64_t index) const {
    const int64_t group = index % g.groups, image = index / g.groups * plan.images_per_task;
    const int64_t images = std::min(plan.images_per_task, g.n - image), pixels = images * g.h * g.w;
    const int64_t at = image * g.h * g.w * width() + group * g.group_channels;
    A* memory = scratch<A>((plan.packed ? 2 * plane_elements() : 0) + block_elements());
    if (plan.packed) {
      A* grad_plane = memory + plane_elements();
      pack(x + at, width(), pixels, g.group_channels, plan.row_length, memory);
      if (to.x) std::fill_n(grad_plane, pixels * plan.row_length, A(0));
      blocks(Plane<A>(memory, plan.row_length, g), Plane<A>(grad_plane, plan.row_length, g), group, image, images,
             arrays(grad_plane + plane_elements()));
      if (to.x) unpack(grad_plane, plan.row_length, pixels, g.group_channels, width(), to.x + at);
      return;
    }
    if constexpr (std::is_same_v<X, A>) {
      for (int64_t p = 0; to.x && p < pixels; ++p) std::fill_n(to.x + at + p * width(), g.group_channels, A(0));
      blocks(Plane<A>(const_cast<A*>(x + at), width(), g), Plane<A>(to.x ? to.x + at : nullptr, width(), g), group,
             image, images, arrays(memory));
    }
  }

  void blocks(const Plane<A>& plane, const Plane<A>& grad_plane, int64_t group, int64_t image, int64_t images,
              const Arrays& arrays) const {
    const int64_t area = g.ho * g.wo, end = (image + images) * area;
    for (int64_t first = image * area; first < end; first += kBlock)
      block(plane, grad_plane, group, {first, image, static_cast<int>(std::min<int64_t>(kBlock, end - first))}, arrays);
  }

  void block(const Plane<A>& plane, const Plane<A>& grad_plane, int64_t group, const Span& span,
             const Arrays& a) const {
    load_transposed(offset + span.first * g.offset_stride + group * g.points * 2, g.offset_stride, span.count,
                    g.points * 2, a.offset);
    load_transposed(mask + span.first * g.mask_stride + group * g.points, g.mask_stride, span.count, g.points, a.mask);
    if (g.softmax) softmax(a.mask, g.points);
    weigh(span, a);
    const int64_t first = span.first * width() + group * g.group_channels;
    pack(grad + first, width(), span.count, g.group_channels, plan.row_length, a.lines);
    if (plan.row_length == kRow<A>)
      points<1>(plane, grad_plane, span.count, a);
    else if (plan.row_length == 2 * kRow<A>)
      points<2>(plane, grad_plane, span.count, a);
    else
      points<0>(plane, grad_plane, span.count, a);
    if (!wants_samples()) return;
    combine(a);
    const int64_t row = span.first * g.groups + group;
    if (to.offset)
      store_transposed(a.offset, g.groups * g.points * 2, span.count, g.points * 2, to.offset + row * g.points * 2);
    if (to.mask) store_transposed(a.mask, g.groups * g.points, span.count, g.points, to.mask + row * g.points);
  }

  template <int kRows>
  void points(const Plane<A>& plane, const Plane<A>& grad_plane, int count, const Arrays& a) const {
    for (int k = 0; k < g.points; ++k) {
      const int32_t* pixel = a.samples[k].pixel;
      if (wants_samples())
        dot_corners<kRows, A>(plane, pixel, a.lines, plan.row_length, count, a.dots + 4 * k * kBlock);
      if (to.x) scatter<kRows, A>(grad_plane, pixel, a.lines, plan.row_length, count, a.weight + 4 * k * kBlock);
    }
  }

  void weigh(const Span& span, const Arrays& a) const {
    Block<A> block;
    block.place(g, span);
    for (int k = 0; k < g.points; ++k) {
      Sample<A>& at = a.samples[k];
      Taps<A>(g, k).sample(block, a.offset + 2 * k * kBlock, at);
      const A* mask = a.mask + k * kBlock;
      A* weight = a.weight + 4 * k * kBlock;
#pragma GCC ivdep
      for (int b = 0; b < kBlock; ++b) {
        const A upper = at.share_y[0][b] * mask[b], lower = at.share_y[1][b] * mask[b];
        weight[0 * kBlock + b] = upper * at.share_x[0][b];
        weight[1 * kBlock + b] = upper * at.share_x[1][b];
        weight[2 * kBlock + b] = lower * at.share_x[0][b];
        weight[3 * kBlock + b] = lower * at.share_x[1][b];
      }
    }
  }

  // From dot products to the gradients of offset and mask, which take the place of offset and mask.
  void combine(const Arrays& a) const {
    A centre[kBlock] = {};
    const A scale = static_cast<A>(g.offset_scale);
    for (int k = 0; k < g.points; ++k) {
      const Sample<A>& at = a.samples[k];
      const A* dot = a.dots + 4 * k * kBlock;
      A *mask = a.mask + k * kBlock, *offset = a.offset + 2 * k * kBlock, *sampled = a.weight + 4 * k * kBlock;
#pragma GCC ivdep
      for (int b = 0; b < kBlock; ++b) {
        const A upper = at.share_x[0][b] * dot[b] + at.share_x[1][b] * dot[kBlock + b];
        const A lower = at.share_x[0][b] * dot[2 * kBlock + b] + at.share_x[1][b] * dot[3 * kBlock + b];
        const A upper_slope = at.slope_x[0][b] * dot[b] + at.slope_x[1][b] * dot[kBlock + b];
        const A lower_slope = at.slope_x[0][b] * dot[2 * kBlock + b] + at.slope_x[1][b] * dot[3 * kBlock + b];
        const A weight = mask[b] * scale;
        sampled[b] = at.share_y[0][b] * upper + at.share_y[1][b] * lower;
        centre[b] += mask[b] * sampled[b];
        offset[b] = weight * (at.share_y[0][b] * upper_slope + at.share_y[1][b] * lower_slope);
        offset[kBlock + b] = weight * (at.slope_y[0][b] * upper + at.slope_y[1][b] * lower);
      }
    }
    for (int k = 0; k < g.points; ++k) {
      A *mask = a.mask + k * kBlock, *sampled = a.weight + 4 * k * kBlock;
      for (int b = 0; b < kBlock; ++b) mask[b] = g.softmax ? mask[b] * (sampled[b] - centre[b]) : sampled[b];
    }
  }
};

template <typename X, typename M>
void backward(const Geometry& g, const X* grad, const X* x, const M* offset, const M* mask, const Gradients<X, M>& to) {
  const Backward<X, M> call{g, Plan<X>(g), grad, x, offset, mask, to};
  parallel_for(call.plan.chunks * g.groups, 1, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) call.task(index);
  });
}

}  // namespace dcnv3::cpu
