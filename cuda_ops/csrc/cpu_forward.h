#pragma once
#include "cpu.h"
#include "cpu_block.h"
#include "cpu_task.h"

namespace dcnv3::cpu {

// One row of channels of one output pixel. Each corner has an accumulator of its own: a single one would wait for the
// latency of every multiply-add.
template <int kPoints, typename A>
inline Row<A> blend(const Plane<A>& plane, int64_t channel, const int32_t* pixel, const A* weight, int points) {
  Row<A> sum[4] = {};
  for (int k = 0; k < (kPoints > 0 ? kPoints : points); ++k, pixel += kBlock, weight += 4 * kBlock) {
    const A* corner = plane.pixels + *pixel * plane.step + channel;
    sum[0].add_scaled(weight[0 * kBlock], Row<A>::load(corner));
    sum[1].add_scaled(weight[1 * kBlock], Row<A>::load(corner + plane.right));
    sum[2].add_scaled(weight[2 * kBlock], Row<A>::load(corner + plane.below));
    sum[3].add_scaled(weight[3 * kBlock], Row<A>::load(corner + plane.below + plane.right));
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

template <typename X, typename M>
struct Forward {
  using A = Arithmetic<X>;
  const Geometry& g;
  const Plan<X> plan;
  const X* x;
  const M *offset, *mask;
  X* out;

  // The arrays of one block, [point][...][lane], a row to convert from, and the taps.
  struct Arrays {
    A *weight, *offset, *mask, *row;
    int32_t* pixel;
    Tap<A>* taps;

    Arrays(A* memory, const Geometry& g, int64_t row_length) {
      const int64_t lanes = int64_t{g.points} * kBlock;
      weight = memory, offset = weight + 4 * lanes, mask = offset + 2 * lanes, row = mask + lanes;
      taps = reinterpret_cast<Tap<A>*>(row + row_length);
      pixel = reinterpret_cast<int32_t*>(taps + g.points);
      for (int k = 0; k < g.points; ++k) taps[k] = Tap<A>(g, k);
    }
    static int64_t elements(const Geometry& g, int64_t row_length) {
      return int64_t{g.points} * (8 * kBlock + 2) + row_length;
    }
  };

  void run(int64_t index) const {
    const Task task = plan.task(g, index);
    const int64_t planes_elements = plan.planes_elements(g);
    A* memory = scratch<A>(planes_elements + Arrays::elements(g, plan.row_length));
    const Planes<const X> planes{g, plan, task, x, memory};
    const Arrays arrays(memory + planes_elements, g, plan.row_length);
    planes.pack_all();
    for_each_block(g, task, [&](int64_t group, const Span& span) {
      if (g.points == 9)
        block<9>(planes.of(group), group, span, arrays);
      else
        block<0>(planes.of(group), group, span, arrays);
    });
  }

  template <int kPoints>
  void block(const Plane<A>& plane, int64_t group, const Span& span, const Arrays& a) const {
    load_weights<kPoints>(g, offset, mask, group, span, a.offset, a.mask);
    const Block<A> block(g, span);
    for (int k = 0; k < (kPoints > 0 ? kPoints : g.points); ++k) {
      Sample<A> at;
      sample_point(g, a.taps[k], block, a.offset + 2 * k * kBlock, at);
      corner_weights(at, a.mask + k * kBlock, a.weight + 4 * k * kBlock);
      std::copy(at.pixel, at.pixel + kBlock, a.pixel + k * kBlock);
    }
    pixels<kPoints>(plane, group, span, a);
  }

  template <int kPoints>
  void pixels(const Plane<A> plane, int64_t group, const Span& span, const Arrays a) const {
    const int64_t width = g.groups * g.group_channels;
    X* to = out + span.first * width + group * g.group_channels;
    for (int b = 0; b < span.count; ++b, to += width) {
      prefetch_weights(g, offset, mask, group, span.first + b);
      prefetch<true>(to + kBlock * width, g.group_channels);
      for (int64_t c = 0; c < plan.row_length; c += kRow<A>) {
        const Row<A> row = blend<kPoints>(plane, c, a.pixel + b, a.weight + b, g.points);
        if constexpr (std::is_same_v<X, A>)
          row.store(plan.whole_rows ? to + c : a.row + c);
        else
          row.store(a.row + c);
      }
      if (!plan.whole_rows) unpack(a.row, g.group_channels, plan.row_length, to);
    }
  }
};

template <typename X, typename M>
void forward(const Geometry& g, const X* x, const M* offset, const M* mask, X* out) {
  const Forward<X, M> call{g, Plan<X>(g, num_threads()), x, offset, mask, out};
  parallel_for(call.plan.tasks(), [&](int64_t index) { call.run(index); });
}

}  // namespace dcnv3::cpu
