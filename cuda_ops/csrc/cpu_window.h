// Depth-wise convolution of a few neighboring pixels at a time ("same" padding, stride 1).
//
// At the edges of an image, for half types and for odd numbers of channels, the pixels that the taps read are first
// copied to a window with zeros for those outside the image; all others are read in place. Row lengths are padded to
// whole vectors; what is computed in the padding is not used.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu_rows.h"
#include "cpu_vector.h"

namespace dcnv3::cpu {

struct Maps {
  int64_t n, h, w, channels;
  int kernel;  // odd
  double eps;

  int64_t pixels() const { return n * h * w; }
  int taps() const { return kernel * kernel; }
  int64_t row_length() const { return (channels + 15) / 16 * 16; }
};

constexpr int kFew = 4;      // pixels of a run at most
constexpr int kChunk = 64;   // channels that are in the window at once

// Neighboring pixels of one row of an image: kFew if none is near its left or right edge, else one.
struct Run {
  int64_t first, x, y;
  int count;

  static Run at(const Maps& m, int64_t first, int64_t end) {
    const int64_t half = m.kernel / 2, x = first % m.w, y = first / m.w % m.h;
    const bool fits = first + kFew <= end && x >= half && x + kFew + half <= m.w;
    return {first, x, y, fits ? kFew : 1};
  }
  bool is_inside(const Maps& m) const {
    const int64_t half = m.kernel / 2;
    return x >= half && x + count + half <= m.w && y >= half && y + half < m.h;
  }
};

template <typename A>
DCNV3_INLINE auto vector_at(const A* from) {
  return *reinterpret_cast<const typename VectorOf<A>::type*>(from);
}

// What the taps of a run read: the first pixel of the first tap, and the distances to the next row and pixel.
template <typename A>
struct View {
  const A* origin;
  int64_t line, step;
  int kernel;

  // Calls `visit(tap, row)` for every tap, with what it reads for the first pixel of the run.
  template <typename Visit>
  DCNV3_INLINE void for_each_tap(const Visit& visit) const {
    const A* row = origin;
    for (int i = 0, t = 0; i < kernel; ++i, row += line)
      for (int j = 0; j < kernel; ++j, ++t) visit(t, row + j * step);
  }
};

template <typename A>
struct Window {
  const Maps& m;
  Numbers<A> values;  // [row of taps][column][channel of the chunk]

  explicit Window(const Maps& m) : m(m), values(m.kernel * (kFew + m.kernel - 1) * kChunk) {}

  // The view of a run for the channels from `chunk` on, in `map` itself if possible.
  template <typename T>
  View<A> of(const T* map, const Run& run, int64_t chunk) {
    if constexpr (std::is_same_v<A, T>) {
      const int64_t half = m.kernel / 2;
      if (m.channels == m.row_length() && run.is_inside(m))
        return {map + (run.first - half * (m.w + 1)) * m.channels + chunk, m.w * m.channels, m.channels, m.kernel};
    }
    fill(map, run, chunk);
    return {values.data(), (run.count + m.kernel - 1) * kChunk, kChunk, m.kernel};
  }

 private:
  template <typename T>
  void fill(const T* map, const Run& run, int64_t chunk) {
    const int64_t half = m.kernel / 2, columns = run.count + m.kernel - 1;
    A* to = values.data();
    for (int64_t i = -half; i <= half; ++i)
      for (int64_t j = -half; j < columns - half; ++j, to += kChunk) {
        const bool inside = run.y + i >= 0 && run.y + i < m.h && run.x + j >= 0 && run.x + j < m.w;
        copy(inside ? map + (run.first + i * m.w + j) * m.channels + chunk : nullptr, m.channels - chunk, to);
      }
  }

  // `from` is null outside the image. Vectors keep the compiler from calling memmove for each pixel.
  template <typename T>
  static DCNV3_INLINE void copy(const T* __restrict__ from, int64_t channels, A* __restrict__ to) {
    using V = typename VectorOf<A>::type;
    if (from == nullptr) {
      for (int c = 0; c < kChunk; c += kLanes<A>) *reinterpret_cast<V*>(to + c) = V{};
      return;
    }
    if constexpr (std::is_same_v<A, T>) {
      if (channels >= kChunk) {
#pragma GCC unroll 4
        for (int c = 0; c < kChunk; c += kLanes<A>) *reinterpret_cast<V*>(to + c) = vector_at(from + c);
        return;
      }
    }
    for (int64_t c = 0; c < kChunk; ++c) to[c] = c < channels ? static_cast<A>(from[c]) : A(0);
  }
};

// Weights of a convolution: tap t of channel c is at t * row_length + c.
template <typename A>
struct Taps {
  Numbers<A> weight, bias;
};

template <int kCount, typename A>
void convolve_chunk(const View<A>& view, const Taps<A>& taps, int64_t length, int64_t first, int64_t end, A* out) {
  using V = typename VectorOf<A>::type;
  const int64_t step = view.step;
  for (int64_t c = first; c < end; c += kLanes<A>) {
    V total[kCount];
    for (V& pixel : total) pixel = vector_at(&taps.bias[c]);
    const A* weights = &taps.weight[c];
    view.for_each_tap([&](int t, const A* row) {
      const V weight = vector_at(weights + t * length);
      for (int b = 0; b < kCount; ++b) total[b] += weight * vector_at(row + b * step + (c - first));
    });
    for (int b = 0; b < kCount; ++b) *reinterpret_cast<V*>(out + b * length + c) = total[b];
  }
}

// Calls `visit(view, first channel, end)` for each chunk of channels.
template <typename A, typename T, typename Visit>
inline void for_each_chunk(Window<A>& window, const T* map, const Run& run, const Visit& visit) {
  const int64_t length = window.m.row_length();
  for (int64_t chunk = 0; chunk < length; chunk += kChunk)
    visit(window.of(map, run, chunk), chunk, std::min<int64_t>(length, chunk + kChunk));
}

// Writes the convolution of a run's pixels to `out`, in rows of row_length.
template <typename A, typename T>
void convolve(Window<A>& window, const T* map, const Run& run, const Taps<A>& taps, A* out) {
  const auto call = run.count == kFew ? convolve_chunk<kFew, A> : convolve_chunk<1, A>;
  for_each_chunk(window, map, run, [&](const View<A>& view, int64_t first, int64_t end) {
    call(view, taps, window.m.row_length(), first, end, out);
  });
}

template <int kCount, typename A>
void add_products_chunk(const View<A>& view, const A* factor, int64_t length, int64_t first, int64_t end, A* sums) {
  using V = typename VectorOf<A>::type;
  const int64_t step = view.step;
  for (int64_t c = first; c < end; c += kLanes<A>) {
    V by[kCount];
    for (int b = 0; b < kCount; ++b) by[b] = vector_at(factor + b * length + c);
    view.for_each_tap([&](int t, const A* row) {
      V total = by[0] * vector_at(row + (c - first));
      for (int b = 1; b < kCount; ++b) total += by[b] * vector_at(row + b * step + (c - first));
      *reinterpret_cast<V*>(sums + t * length + c) += total;
    });
  }
}

// Adds the products of `factor`, in rows of row_length, with the pixels that each tap reads to the sums of the taps.
template <typename A, typename T>
void add_products(Window<A>& window, const T* map, const Run& run, const A* factor, A* sums) {
  const auto call = run.count == kFew ? add_products_chunk<kFew, A> : add_products_chunk<1, A>;
  for_each_chunk(window, map, run, [&](const View<A>& view, int64_t first, int64_t end) {
    call(view, factor, window.m.row_length(), first, end, sums);
  });
}

}  // namespace dcnv3::cpu
