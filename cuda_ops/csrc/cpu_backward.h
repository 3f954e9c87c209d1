#pragma once
#include "cpu.h"
#include "cpu_block.h"
#include "cpu_task.h"

namespace dcnv3::cpu {

// For one point of every lane of a block, computes the dot products of the output pixel's gradient with the point's
// four corners: the gradients of offset and mask need nothing else. kRows is the number of rows of channels, or 0 if it
// is known only at run time. Arguments are passed by value, so that the compiler need not assume that a store changes
// them.
template <int kRows, typename A>
void dot_corners(const Plane<A> plane, const int32_t* pixel, const A* rows, int64_t row_length, int count,
                 A* __restrict__ dots) {
  using Quarter = typename VectorOf<A>::quarter;
  const int64_t to_corner[4] = {0, plane.right, plane.below, plane.below + plane.right};
  const int64_t channels = kRows > 0 ? kRows * kRow<A> : row_length;
  for (int b = 0; b < count; b += 4) {  // computing lanes beyond the end of the span does no harm
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      DotVector<A> dot[4] = {};
      for (int lane = 0; lane < 4; ++lane) {
        const A* line = rows + (b + lane) * channels;
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

// For one point of every lane of a block, adds to each corner its share of the output pixel's gradient. The loop over
// lanes is inside that over points, because neighboring points of one pixel have corners in common, and each addition
// would wait for the previous one.
template <int kRows, typename A>
void scatter(const Plane<A> plane, const int32_t* pixel, const A* rows, int64_t row_length, int count,
             const A* weight) {
  for (int b = 0; b < count; ++b, rows += row_length, ++weight) {
    A* corner = plane.pixels + pixel[b] * plane.step;
    for (int64_t c = 0; c < (kRows > 0 ? kRows * kRow<A> : row_length); c += kRow<A>) {
      const Row<A> row = Row<A>::load(rows + c);
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

  // The arrays of one block, [point][...][lane], its gradient's rows, and the taps.
  struct Arrays {
    A *weight, *offset, *mask, *dots, *rows;
    Tap<A>* taps;
    int32_t* pixel;

    Arrays(A* memory, const Geometry& g, int64_t row_length) {
      const int64_t lanes = int64_t{g.points} * kBlock;
      weight = memory, offset = weight + 4 * lanes, mask = offset + 2 * lanes, dots = mask + lanes;
      rows = dots + 4 * lanes;
      taps = reinterpret_cast<Tap<A>*>(rows + kBlock * row_length);
      pixel = reinterpret_cast<int32_t*>(taps + g.points);
      for (int k = 0; k < g.points; ++k) taps[k] = Tap<A>(g, k);
    }
    static int64_t elements(const Geometry& g, int64_t row_length) {
      return int64_t{g.points} * (12 * kBlock + 2) + kBlock * row_length;
    }
  };

  bool wants_dots() const { return to.offset != nullptr || to.mask != nullptr; }

  void run(int64_t index) const {
    const Task task = plan.task(g, index);
    const int64_t planes_elements = plan.planes_elements(g);
    A* memory = scratch<A>(2 * planes_elements + Arrays::elements(g, plan.row_length));
    const Planes<const X> planes{g, plan, task, x, memory};
    const Planes<X> grad_planes{g, plan, task, to.x, memory + planes_elements};
    const Arrays arrays(memory + 2 * planes_elements, g, plan.row_length);
    if (wants_dots()) planes.pack_all();
    if (to.x) grad_planes.clear();
    for_each_block<A>(g, task, [&](int64_t group, const Span& span, const Block<A>& lanes) {
      if (g.points == 9)
        block<9>(planes.of(group), grad_planes.of(group), group, span, lanes, arrays);
      else
        block<0>(planes.of(group), grad_planes.of(group), group, span, lanes, arrays);
    });
    if (to.x) grad_planes.unpack_all();
  }

  template <int kPoints>
  void block(const Plane<A>& plane, const Plane<A>& grad_plane, int64_t group, const Span& span, const Block<A>& block,
             const Arrays& a) const {
    load_weights<kPoints>(g, offset, mask, group, span, a.offset, a.mask);
    for (int k = 0; k < (kPoints > 0 ? kPoints : g.points); ++k)
      sample_point<true>(g, a.taps[k], block, a.offset + 2 * k * kBlock, a.mask + k * kBlock, a.pixel + k * kBlock,
                         a.weight + 4 * k * kBlock);
    load_rows<kPoints>(group, span, a);
    if (plan.row_length == kRow<A>)
      points<1>(plane, grad_plane, span, a);
    else if (plan.row_length == 2 * kRow<A>)
      points<2>(plane, grad_plane, span, a);
    else if (plan.row_length == 4 * kRow<A>)
      points<4>(plane, grad_plane, span, a);
    else
      points<0>(plane, grad_plane, span, a);
    if (wants_dots()) store_weights<kPoints>(group, span, a);
  }

  // Loads the gradient of every lane's output pixel, and prefetches what a later block reads and writes.
  template <int kPoints>
  void load_rows(int64_t group, const Span& span, const Arrays& a) const {
    const int64_t width = g.groups * g.group_channels, first = span.first * width + group * g.group_channels;
    const int64_t values = g.groups * g.points;  // per pixel; the gradients of offset and mask are contiguous
    Ahead<kPoints, false, M> ahead(g, group, span.first, offset, g.offset_stride, mask, g.mask_stride);
    Ahead<kPoints, true, M> gradients(g, group, span.first, to.offset, 2 * values, to.mask, values);
    for (int b = 0; b < span.count; ++b) {
      const X* from = grad + first + b * width;
      pack(from, g.group_channels, plan.row_length, a.rows + b * plan.row_length);
      prefetch(from + kStretch * width, g.group_channels);
      ahead.next();
      if (to.offset && to.mask) gradients.next();
    }
  }

  template <int kRows>
  void points(const Plane<A>& plane, const Plane<A>& grad_plane, const Span& span, const Arrays& a) const {
    for (int k = 0; k < g.points; ++k) {
      const int32_t* pixel = a.pixel + k * kBlock;
      if (wants_dots())
        dot_corners<kRows, A>(plane, pixel, a.rows, plan.row_length, span.count, a.dots + 4 * k * kBlock);
      if (to.x)
        scatter<kRows, A>(grad_plane, pixel, a.rows, plan.row_length, span.count, a.weight + 4 * k * kBlock);
    }
  }

  template <int kPoints>
  void store_weights(int64_t group, const Span& span, const Arrays& a) const {
    const int points = kPoints > 0 ? kPoints : g.points, values = 2 * points;
    combine(points, a);
    const int64_t pair = span.first * g.groups + group;
    if (to.offset) store_transposed(a.offset, g.groups * values, span.count, values, to.offset + pair * values);
    if (to.mask) store_transposed(a.mask, g.groups * points, span.count, points, to.mask + pair * points);
  }

  // Computes the gradients of offset and mask from the dot products; they overwrite offset and mask.
  DCNV3_INLINE void combine(int points, const Arrays& a) const {
    A mean[kBlock] = {};  // of the samples, weighted by the mask
    const A scale = static_cast<A>(g.offset_scale);
    const int width = static_cast<int>(g.w), height = static_cast<int>(g.h);
    for (int k = 0; k < points; ++k) {
      const A* dot = a.dots + 4 * k * kBlock;
      A *mask = a.mask + k * kBlock, *offset = a.offset + 2 * k * kBlock, *sampled = a.weight + 4 * k * kBlock;
#pragma GCC ivdep
      for (int b = 0; b < kBlock; ++b) {
        const auto x = axis_shares(offset[b], width), y = axis_shares(offset[kBlock + b], height);
        const A upper = x.share[0] * dot[b] + x.share[1] * dot[kBlock + b];
        const A lower = x.share[0] * dot[2 * kBlock + b] + x.share[1] * dot[3 * kBlock + b];
        const A upper_slope = x.slope[0] * dot[b] + x.slope[1] * dot[kBlock + b];
        const A lower_slope = x.slope[0] * dot[2 * kBlock + b] + x.slope[1] * dot[3 * kBlock + b];
        const A weight = mask[b] * scale;
        sampled[b] = y.share[0] * upper + y.share[1] * lower;
        mean[b] += mask[b] * sampled[b];
        offset[b] = weight * (y.share[0] * upper_slope + y.share[1] * lower_slope);
        offset[kBlock + b] = weight * (y.slope[0] * upper + y.slope[1] * lower);
      }
    }
    for (int k = 0; k < points; ++k) {
      A *mask = a.mask + k * kBlock, *sampled = a.weight + 4 * k * kBlock;
      for (int b = 0; b < kBlock; ++b) mask[b] = g.softmax ? mask[b] * (sampled[b] - mean[b]) : sampled[b];
    }
  }
};

template <typename X, typename M>
void backward(const Geometry& g, const X* grad, const X* x, const M* offset, const M* mask, const Gradients<X, M>& to) {
  const Backward<X, M> call{g, Plan<X>(g, num_threads()), grad, x, offset, mask, to};
  parallel_for(call.plan.tasks(), [&](int64_t index) { call.run(index); });
}

}  // namespace dcnv3::cpu
