#pragma once
#include "cpu.h"
#include "cpu_block.h"
#include "cpu_task.h"

namespace dcnv3::cpu {

// Computes one row of channels of kTogether output pixels. Each corner has its own accumulator: with a single one each
// multiply-add would wait for the previous one.
template <int kPoints, typename A>
DCNV3_INLINE void blend(const Plane<A>& plane, int64_t channel, const int32_t* pixel, const A* weight, int first,
                        int points, Row<A> (&rows)[kTogether]) {
  const int64_t to_corner[4] = {0, plane.right, plane.below, plane.below + plane.right};
  const Weights<A> weights(first);
  Row<A> sum[kTogether][4] = {};
  for (int k = 0; k < (kPoints > 0 ? kPoints : points); ++k, pixel += kBlock, weight += 4 * kBlock) {
    const A* at[kTogether];
    for (int i = 0; i < kTogether; ++i) at[i] = plane.pixels + pixel[first + i] * plane.step + channel;
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      const auto lanes = weights.load(weight + corner * kBlock);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i)
        sum[i][corner].add_scaled(weights.of(lanes, i), Row<A>::load(at[i] + to_corner[corner]));
    }
  }
  for (int i = 0; i < kTogether; ++i) rows[i] = (sum[i][0] + sum[i][1]) + (sum[i][2] + sum[i][3]);
}

template <typename X, typename M>
struct Forward {
  using A = Arithmetic<X>;
  const Geometry& g;
  const Plan<X> plan;
  const X* x;
  const M *offset, *mask;
  X* out;

  // The arrays of one block, [point][...][lane], the result's rows before conversion, and the taps.
  struct Arrays {
    A *weight, *offset, *mask, *rows;
    int32_t* pixel;
    Tap<A>* taps;

    Arrays(A* memory, const Geometry& g, int64_t row_length) {
      const int64_t lanes = int64_t{g.points} * kBlock;
      weight = memory, offset = weight + 4 * lanes, mask = offset + 2 * lanes, rows = mask + lanes;
      taps = reinterpret_cast<Tap<A>*>(rows + kTogether * row_length);
      pixel = reinterpret_cast<int32_t*>(taps + g.points);
      for (int k = 0; k < g.points; ++k) taps[k] = Tap<A>(g, k);
    }
    static int64_t elements(const Geometry& g, int64_t row_length) {
      return int64_t{g.points} * (8 * kBlock + 2) + kTogether * row_length;
    }
  };

  void run(int64_t index) const {
    const Task task = plan.task(g, index);
    const int64_t planes_elements = plan.planes_elements(g);
    A* memory = scratch<A>(planes_elements + Arrays::elements(g, plan.row_length));
    const Planes<const X> planes{g, plan, task, x, memory};
    const Arrays arrays(memory + planes_elements, g, plan.row_length);
    planes.pack_all();
    for_each_block<A>(g, task, [&](int64_t group, const Span& span, const Block<A>& lanes) {
      if (g.points == 9)
        block<9>(planes.of(group), group, span, lanes, arrays);
      else
        block<0>(planes.of(group), group, span, lanes, arrays);
    });
  }

  template <int kPoints>
  void block(const Plane<A>& plane, int64_t group, const Span& span, const Block<A>& block, const Arrays& a) const {
    load_weights<kPoints>(g, offset, mask, group, span, a.offset, a.mask);
    for (int k = 0; k < (kPoints > 0 ? kPoints : g.points); ++k)
      sample_point<false>(g, a.taps[k], block, a.offset + 2 * k * kBlock, a.mask + k * kBlock, a.pixel + k * kBlock,
                          a.weight + 4 * k * kBlock);
    pixels<kPoints>(plane, group, span, a);
  }

  template <int kPoints>
  void pixels(const Plane<A> plane, int64_t group, const Span& span, const Arrays a) const {
    const int64_t width = g.groups * g.group_channels;
    X* to = out + span.first * width + group * g.group_channels;
    Ahead<kPoints, false, M> ahead(g, group, span.first, offset, g.offset_stride, mask, g.mask_stride);
    for (int b = 0; b < span.count; b += kTogether) {
      Row<A> rows[kTogether];
      for (int64_t c = 0; c < plan.row_length; c += kRow<A>) {
        blend<kPoints>(plane, c, a.pixel, a.weight, b, g.points, rows);
        for (int i = 0; i < kTogether; ++i) rows[i].store(a.rows + i * plan.row_length + c);
      }
      for (int i = 0; i < kTogether && b + i < span.count; ++i, to += width) {
        ahead.next();
        prefetch<true>(to + kBlock * width, g.group_channels);
        unpack(a.rows + i * plan.row_length, g.group_channels, plan.row_length, to);
      }
    }
  }
};

template <typename X, typename M>
void forward(const Geometry& g, const X* x, const M* offset, const M* mask, X* out) {
  const Forward<X, M> call{g, Plan<X>(g, num_threads()), x, offset, mask, out};
  parallel_for(call.plan.tasks(), [&](int64_t index) { call.run(index); });
}

}  // namespace dcnv3::cpu
