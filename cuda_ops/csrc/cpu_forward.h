#pragma once
#include "cpu.h"
#include "cpu_block.h"
#include "cpu_plane.h"

namespace dcnv3::cpu {

// One row of channels of one output pixel. Each corner has an accumulator of its own: a single one would wait for the
// latency of every multiply-add.
template <int kPoints, typename A>
Row<A> blend(const Plane<A> plane, int64_t channel, const int32_t* pixel, const A* weight, int points) {
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

  int64_t width() const { return g.groups * g.group_channels; }
  int64_t plane_elements() const { return plan.packed ? plan.images_per_task * g.h * g.w * plan.row_length : 0; }
  int64_t block_elements() const { return int64_t{g.points} * kBlock * 8 + plan.row_length; }

  void task(int64_t index) const {
    const int64_t group = index % g.groups, image = index / g.groups * plan.images_per_task;
    const int64_t images = std::min(plan.images_per_task, g.n - image);
    const X* source = x + image * g.h * g.w * width() + group * g.group_channels;
    A* memory = scratch<A>(plane_elements() + block_elements());
    A* block_memory = memory + plane_elements();
    if (plan.packed) {
      pack(source, width(), images * g.h * g.w, g.group_channels, plan.row_length, memory);
      return blocks(Plane<A>(memory, plan.row_length, g), group, image, images, block_memory);
    }
    if constexpr (std::is_same_v<X, A>)
      blocks(Plane<A>(const_cast<A*>(source), width(), g), group, image, images, block_memory);
  }

  void blocks(const Plane<A>& plane, int64_t group, int64_t image, int64_t images, A* memory) const {
    const int64_t area = g.ho * g.wo, end = (image + images) * area;
    for (int64_t first = image * area; first < end; first += kBlock)
      block(plane, group, {first, image, static_cast<int>(std::min<int64_t>(kBlock, end - first))}, memory);
  }

  void block(const Plane<A>& plane, int64_t group, const Span& span, A* memory) const {
    A* weight = memory;
    A* offsets = weight + 4 * g.points * kBlock;
    A* masks = offsets + 2 * g.points * kBlock;
    A* line = masks + g.points * kBlock;
    int32_t* pixel = reinterpret_cast<int32_t*>(line + plan.row_length);
    load_transposed(offset + span.first * g.offset_stride + group * g.points * 2, g.offset_stride, span.count,
                    g.points * 2, offsets);
    load_transposed(mask + span.first * g.mask_stride + group * g.points, g.mask_stride, span.count, g.points, masks);
    if (g.softmax) softmax(masks, g.points);
    weigh(span, offsets, masks, pixel, weight);
    for (int b = 0; b < span.count; ++b) {
      fetch(group, span.first + kBlock + b);
      X* to = out + (span.first + b) * width() + group * g.group_channels;
      for (int64_t channel = 0; channel < plan.row_length; channel += kRow<A>)
        row(g.points == 9 ? blend<9>(plane, channel, pixel + b, weight + b, 9)
                          : blend<0>(plane, channel, pixel + b, weight + b, g.points),
            channel, line, to);
      if (!whole_rows()) unpack(line, plan.row_length, 1, g.group_channels, 0, to);
    }
  }

  bool whole_rows() const { return std::is_same_v<X, A> && plan.row_length == g.group_channels; }

  void row(const Row<A>& value, int64_t channel, A* line, X* to) const {
    if constexpr (std::is_same_v<X, A>) {
      if (whole_rows()) return value.store(to + channel);
    }
    value.store(line + channel);
  }

  // Asks for one pixel of the next block while this one is computed: a group's part of a pixel is too short and too far
  // from the next for the processor to see a stream in it. Past the end of a tensor nothing happens.
  void fetch(int64_t group, int64_t pixel) const {
    const M* offsets = offset + pixel * g.offset_stride + group * g.points * 2;
    __builtin_prefetch(offsets);
    __builtin_prefetch(offsets + 2 * g.points - 1);
    __builtin_prefetch(mask + pixel * g.mask_stride + group * g.points);
  }

  void weigh(const Span& span, const A* offsets, const A* masks, int32_t* pixel, A* weight) const {
    Block<A> block;
    block.place(g, span);
    for (int k = 0; k < g.points; ++k, pixel += kBlock, weight += 4 * kBlock, masks += kBlock, offsets += 2 * kBlock) {
      Sample<A> at;
      Taps<A>(g, k).sample(block, offsets, at);
#pragma GCC ivdep
      for (int b = 0; b < kBlock; ++b) {
        const A upper = at.share_y[0][b] * masks[b], lower = at.share_y[1][b] * masks[b];
        pixel[b] = at.pixel[b];
        weight[0 * kBlock + b] = upper * at.share_x[0][b];
        weight[1 * kBlock + b] = upper * at.share_x[1][b];
        weight[2 * kBlock + b] = lower * at.share_x[0][b];
        weight[3 * kBlock + b] = lower * at.share_x[1][b];
      }
    }
  }
};

template <typename X, typename M>
void forward(const Geometry& g, const X* x, const M* offset, const M* mask, X* out) {
  const Forward<X, M> call{g, Plan<X>(g), x, offset, mask, out};
  parallel_for(call.plan.chunks * g.groups, 1, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) call.task(index);
  });
}

}  // namespace dcnv3::cpu
