// How a call is divided into tasks, and the working memory of a task.
//
// A task is a range of groups of one or several images. It alone writes those groups' gradient of x, so tasks share
// nothing, and the order of every sum is independent of the number of threads and of the division. Most of the data
// read is offset and mask, in which the groups of a pixel are adjacent. So a task processes all its groups for one
// stretch of pixels before the next stretch.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>

#include "cpu_block.h"
#include "cpu_vector.h"
#include "geometry.h"

namespace dcnv3::cpu {

// The groups of a task are packed into separate planes. Otherwise, with a power of two of channels, the pixels of one
// group fall into a few sets of the L1 cache and each on a different page. Packing costs one read and one write per
// pixel; sampling reads 4 * points times. A single plane may exceed this size; backward needs it twice.
constexpr int64_t kPlanesBytes = int64_t{1} << 21;

// A task combines small images until their output pixels fill several blocks.
constexpr int64_t kPixelsPerTask = 8 * kBlock;

// Output pixels that are processed for one group before the next group: enough to keep x in the L1 cache, and few
// enough to keep the next group's offsets in the L2 cache.
constexpr int64_t kStretch = 4 * kBlock;

// More tasks than threads, if there are enough images and groups, so that a delayed thread does not delay the call.
constexpr int64_t kTasksPerThread = 4;

template <typename X>
using Arithmetic = std::conditional_t<std::is_same_v<X, double>, double, float>;

struct Task {
  int64_t image, images, group, groups;
};

template <typename X>
struct Plan {
  using A = Arithmetic<X>;
  int64_t row_length;      // channels of a group, padded to whole rows
  int64_t images, groups;  // per task
  int64_t image_ranges, group_ranges;

  Plan(const Geometry& g, int64_t threads) {
    row_length = (g.group_channels + kRow<A> - 1) / kRow<A> * kRow<A>;
    const int64_t area = g.h * g.w, plane_bytes = area * row_length * static_cast<int64_t>(sizeof(A));
    if (area > int64_t{1} << 30) throw std::runtime_error("dcnv3: an image has over 2^30 pixels");
    const int64_t fitting = std::max<int64_t>(1, kPlanesBytes / plane_bytes);
    images = std::min({g.n, fitting, (kPixelsPerTask + g.ho * g.wo - 1) / (g.ho * g.wo)});
    image_ranges = (g.n + images - 1) / images;
    const int64_t wanted = std::min(g.groups, (kTasksPerThread * threads + image_ranges - 1) / image_ranges);
    groups = std::min((g.groups + wanted - 1) / wanted, std::max<int64_t>(1, fitting / images));
    group_ranges = (g.groups + groups - 1) / groups;
  }

  int64_t tasks() const { return image_ranges * group_ranges; }

  Task task(const Geometry& g, int64_t index) const {
    const int64_t image = index / group_ranges * images, group = index % group_ranges * groups;
    return {image, std::min(images, g.n - image), group, std::min(groups, g.groups - group)};
  }

  // Elements of one plane, and of all planes of the largest task.
  int64_t plane_elements(const Geometry& g) const { return images * g.h * g.w * row_length; }
  int64_t planes_elements(const Geometry& g) const { return groups * plane_elements(g); }
};

// Calls `visit(group, span, block)` for all blocks of a task.
template <typename A, typename Visit>
void for_each_block(const Geometry& g, const Task& task, const Visit& visit) {
  const int64_t area = g.ho * g.wo, end = (task.image + task.images) * area;
  Block<A> blocks[kStretch / kBlock];
  for (int64_t stretch = task.image * area; stretch < end; stretch += kStretch) {
    const auto span = [&](int64_t first) {
      return Span{first, task.image, static_cast<int>(std::min<int64_t>(kBlock, end - first))};
    };
    const int64_t stop = std::min(stretch + kStretch, end);
    for (int64_t first = stretch; first < stop; first += kBlock) blocks[(first - stretch) / kBlock] = {g, span(first)};
    for (int64_t group = task.group; group < task.group + task.groups; ++group)
      for (int64_t first = stretch; first < stop; first += kBlock)
        visit(group, span(first), blocks[(first - stretch) / kBlock]);
  }
}

// Prefetches what a later block of the same group reads or writes. One pixel's values are too few and too far from
// those of the next pixel for the hardware prefetcher to detect a stream. One pixel is prefetched at a time, between
// arithmetic, because the processor drops requests if there are many at once. A prefetch beyond the end of a tensor has
// no effect. Always inline: GCC assumes that a function that only prefetches has no effect and removes its call.
template <bool kWrite = false, typename T>
DCNV3_INLINE void prefetch(const T* values, int64_t count) {
  for (int64_t v = 0; v < count; v += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(values + v, kWrite, 2);
}

// Prefetches one group's offsets and masks, or their gradients, one stretch ahead; one pixel per call.
template <int kPoints, bool kWrite, typename M>
struct Ahead {
  const M *offset, *mask;
  int64_t offset_stride, mask_stride;
  int points;

  Ahead(const Geometry& g, int64_t group, int64_t pixel, const M* offsets, int64_t offset_stride, const M* masks,
        int64_t mask_stride)
      : offset(offsets + (pixel + kStretch) * offset_stride + group * g.points * 2),
        mask(masks + (pixel + kStretch) * mask_stride + group * g.points),
        offset_stride(offset_stride),
        mask_stride(mask_stride),
        points(g.points) {}
  DCNV3_INLINE void next() {
    prefetch<kWrite>(offset, 2 * (kPoints > 0 ? kPoints : points));
    prefetch<kWrite>(mask, kPoints > 0 ? kPoints : points);
    offset += offset_stride, mask += mask_stride;
  }
};

// Working memory of a thread, kept between calls, because new pages cost more time than the work of a small map.
template <typename A>
A* scratch(int64_t elements) {
  constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(A* memory) const { ::operator delete[](memory, kAlignment); }
  };
  thread_local std::unique_ptr<A, Free> memory;
  thread_local int64_t capacity = 0;
  if (capacity < elements) {
    memory.reset();
    capacity = 0;
    memory.reset(static_cast<A*>(::operator new[](elements * sizeof(A), kAlignment)));
    capacity = elements;
  }
  return memory.get();
}

// Copies one group's channels of one pixel from a tensor to a row of a plane (pack) or back (unpack).
template <typename A, typename X>
inline void pack(const X* from, int64_t channels, int64_t row_length, A* to) {
  if constexpr (std::is_same_v<A, X>) {
    if (channels == row_length) {
      for (int64_t c = 0; c < row_length; c += kRow<A>) Row<A>::load(from + c).store(to + c);
      return;
    }
  }
  for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<A>(from[c]);
  for (int64_t c = channels; c < row_length; ++c) to[c] = 0;
}

template <typename A, typename X>
inline void unpack(const A* from, int64_t channels, int64_t row_length, X* to) {
  if constexpr (std::is_same_v<A, X>) {
    if (channels == row_length) {
      for (int64_t c = 0; c < row_length; c += kRow<A>) Row<A>::load(from + c).store(to + c);
      return;
    }
  }
  for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<X>(from[c]);
}

// One group of all images of a task: their pixels in order, row_length elements each.
template <typename A>
struct Plane {
  A* pixels;
  int64_t step;          // elements between pixels
  int64_t right, below;  // elements to the neighbors; 0 if the image has only one column or row
};

// The planes of a task, in `memory`, with the values of the tensor `x`. X may be const.
template <typename X>
struct Planes {
  using Value = std::remove_const_t<X>;
  using A = Arithmetic<Value>;
  const Geometry& g;
  const Plan<Value>& plan;
  const Task& task;
  X* x;
  A* memory;

  A* first_pixel(int64_t index) const { return memory + index * plan.plane_elements(g); }

  Plane<A> of(int64_t group) const {
    const int64_t step = plan.row_length;
    return {first_pixel(group - task.group), step, g.w > 1 ? step : 0, g.h > 1 ? step * g.w : 0};
  }

  // Calls `move(values, row)` for every pixel of every group, with pointers to its channels in x and in a plane.
  template <bool kWrite, typename Move>
  void for_each_pixel(const Move& move) const {
    const int64_t width = g.groups * g.group_channels, pixels = task.images * g.h * g.w;
    X* at = x + task.image * g.h * g.w * width + task.group * g.group_channels;
    for (int64_t p = 0; p < pixels; ++p, at += width) {
      prefetch<kWrite>(at + kBlock * width, task.groups * g.group_channels);
      for (int64_t i = 0; i < task.groups; ++i)
        move(at + i * g.group_channels, first_pixel(i) + p * plan.row_length);
    }
  }

  void pack_all() const {
    for_each_pixel<false>([&](X* from, A* row) { pack(from, g.group_channels, plan.row_length, row); });
  }
  void unpack_all() const {
    for_each_pixel<true>([&](X* to, A* row) { unpack(row, g.group_channels, plan.row_length, to); });
  }
  void clear() const { std::fill_n(memory, plan.planes_elements(g), A(0)); }
};

}  // namespace dcnv3::cpu
