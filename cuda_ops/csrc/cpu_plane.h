// How a call is cut into tasks, and the memory that a task works in.
//
// A task is one group of one or several images. It owns that group's gradient of x, so nothing is shared between tasks
// and every sum has one order whatever the number of threads. The group's channels are packed into a plane of their own
// first, because at widths of a power of two the pixels of one group otherwise fall into a few sets of the L1 cache;
// the pass costs one read and one write per pixel, against 4 * points reads when sampling.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>

#include "cpu_vector.h"
#include "geometry.h"

namespace dcnv3::cpu {

// Planes above this are sampled where they lie: packed they would not stay in the L2 cache.
constexpr int64_t kLargestPackedPlane = int64_t{1} << 20;

// Small images are taken together until their output pixels fill some blocks.
constexpr int64_t kPixelsPerTask = 8 * kBlock;

template <typename X>
using Arithmetic = std::conditional_t<std::is_same_v<X, double>, double, float>;

template <typename X>
struct Plan {
  using A = Arithmetic<X>;
  int64_t row_length;  // channels of a group, padded to whole rows
  int64_t images_per_task, chunks;
  bool packed;

  explicit Plan(const Geometry& g) {
    row_length = (g.group_channels + kRow<A> - 1) / kRow<A> * kRow<A>;
    const bool whole_rows = std::is_same_v<X, A> && row_length == g.group_channels;
    const int64_t area = g.h * g.w, plane_bytes = area * row_length * static_cast<int64_t>(sizeof(A));
    if (area > std::numeric_limits<int32_t>::max() / 2) throw std::runtime_error("dcnv3: an image has over 2^30 pixels");
    packed = !whole_rows || plane_bytes <= kLargestPackedPlane;
    const int64_t wanted = (kPixelsPerTask + g.ho * g.wo - 1) / (g.ho * g.wo);
    const int64_t fitting = std::max<int64_t>(1, kLargestPackedPlane / 4 / plane_bytes);
    images_per_task = std::min({wanted, fitting, g.n});
    chunks = (g.n + images_per_task - 1) / images_per_task;
  }
};

// Memory of one thread, kept between calls: fresh pages cost more than the work of a small map.
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
    memory.reset(static_cast<A*>(::operator new[](elements * sizeof(A), kAlignment)));
    capacity = elements;
  }
  return memory.get();
}

// Between tensors, where a pixel is every `stride` elements, and planes, where it is every `row_length`.
template <typename A, typename X>
void pack(const X* from, int64_t stride, int64_t pixels, int64_t channels, int64_t row_length, A* to) {
  if constexpr (std::is_same_v<A, X>) {
    if (channels == row_length) {
      for (; pixels > 0; --pixels, from += stride, to += row_length)
        for (int64_t c = 0; c < row_length; c += kRow<A>) Row<A>::load(from + c).store(to + c);
      return;
    }
  }
  for (; pixels > 0; --pixels, from += stride, to += row_length) {
    for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<A>(from[c]);
    for (int64_t c = channels; c < row_length; ++c) to[c] = 0;
  }
}

template <typename A, typename X>
void unpack(const A* from, int64_t row_length, int64_t pixels, int64_t channels, int64_t stride, X* to) {
  if constexpr (std::is_same_v<A, X>) {
    if (channels == row_length) {
      for (; pixels > 0; --pixels, from += row_length, to += stride)
        for (int64_t c = 0; c < row_length; c += kRow<A>) Row<A>::load(from + c).store(to + c);
      return;
    }
  }
  for (; pixels > 0; --pixels, from += row_length, to += stride)
    for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<X>(from[c]);
}

// Where a task samples: a plane of its own, or the tensor itself.
template <typename A>
struct Plane {
  A* pixels;
  int64_t step;           // elements from one pixel to the next
  int64_t right, below;   // to the neighbours; 0 where the image has only one column or row

  Plane(A* pixels, int64_t step, const Geometry& g)
      : pixels(pixels), step(step), right(g.w > 1 ? step : 0), below(g.h > 1 ? step * g.w : 0) {}
};

}  // namespace dcnv3::cpu
