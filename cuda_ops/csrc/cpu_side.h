// The side branch of the DCNv3 layer in one pass over its input: depth-wise convolution ("same" padding, stride 1),
// LayerNorm over the channels, GELU. Nothing between input and output is stored: the backward pass computes the
// convolution and the norm again, a pixel at a time.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu_gelu.h"
#include "cpu_rows.h"

namespace dcnv3::cpu {

struct Maps {
  int64_t n, h, w, channels;
  int kernel;  // odd
  double eps;

  int64_t pixels() const { return n * h * w; }
  int taps() const { return kernel * kernel; }
};

// Tap t of channel c is at t * channels + c: the channels of a tap are consecutive, as those of a pixel.
template <typename A>
struct SideWeights {
  std::vector<A> taps, bias, scale, shift;

  template <typename X>
  SideWeights(const Maps& m, const X* weight, const X* bias, const X* scale, const X* shift)
      : taps(m.taps() * m.channels),
        bias(converted<A>(bias, m.channels)),
        scale(converted<A>(scale, m.channels)),
        shift(converted<A>(shift, m.channels)) {
    for (int64_t c = 0; c < m.channels; ++c)
      for (int t = 0; t < m.taps(); ++t) taps[t * m.channels + c] = static_cast<A>(weight[c * m.taps() + t]);
  }

  // For the gradient of the input: the convolution with the taps in reverse order and without bias.
  void reverse(const Maps& m) {
    for (int t = 0; t < m.taps() / 2; ++t)
      std::swap_ranges(taps.begin() + t * m.channels, taps.begin() + (t + 1) * m.channels,
                       taps.begin() + (m.taps() - 1 - t) * m.channels);
    std::fill(bias.begin(), bias.end(), A(0));
  }
};

// The neighbors of a pixel, in the order of the taps; one outside the image is a row of zeros.
template <typename T>
struct Neighbors {
  const Maps& m;
  const T* center;
  int64_t x, y;
  std::vector<T> zeros;
  std::vector<const T*> rows;

  Neighbors(const Maps& m, const T* map, int64_t pixel)
      : m(m),
        center(map + pixel * m.channels),
        x(pixel % m.w),
        y(pixel / m.w % m.h),
        zeros(m.channels, T(0)),
        rows(m.taps()) {}

  // Those of the next pixel; the first call gives those of the first.
  const T* const* next() {
    const int half = m.kernel / 2;
    for (int i = -half, t = 0; i <= half; ++i)
      for (int j = -half; j <= half; ++j, ++t) {
        const bool inside = y + i >= 0 && y + i < m.h && x + j >= 0 && x + j < m.w;
        rows[t] = inside ? center + (i * m.w + j) * m.channels : zeros.data();
      }
    center += m.channels;
    if (++x == m.w) x = 0, ++y;
    if (y == m.h) y = 0;
    return rows.data();
  }
};

template <int kTaps, typename A, typename T, typename O>
inline void convolve_unrolled(const T* const* rows, const A* __restrict__ weights, const A* __restrict__ bias,
                              int64_t channels, O* __restrict__ out) {
  const T* row[kTaps];
  std::copy(rows, rows + kTaps, row);
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    A total = bias[c];
#pragma GCC unroll 9
    for (int t = 0; t < kTaps; ++t) total += weights[t * channels + c] * static_cast<A>(row[t][c]);
    out[c] = static_cast<O>(total);
  }
}

template <typename A, typename T, typename O>
inline void convolve(const Maps& m, const T* const* rows, const SideWeights<A>& w, A* __restrict__ scratch, O* out) {
  if (m.kernel == 3) return convolve_unrolled<9>(rows, w.taps.data(), w.bias.data(), m.channels, out);
  std::copy(w.bias.begin(), w.bias.end(), scratch);
  for (int t = 0; t < m.taps(); ++t) {
    const A* __restrict__ weight = w.taps.data() + t * m.channels;
    const T* __restrict__ row = rows[t];
    for (int64_t c = 0; c < m.channels; ++c) scratch[c] += weight[c] * static_cast<A>(row[c]);
  }
  for (int64_t c = 0; c < m.channels; ++c) out[c] = static_cast<O>(scratch[c]);
}

// Makes the mean of a row zero and its variance one, and returns the factor of the latter.
template <typename A>
inline A normalize(const Maps& m, A* __restrict__ row) {
  const A mean = sum(row, m.channels) / static_cast<A>(m.channels);
  for (int64_t c = 0; c < m.channels; ++c) row[c] -= mean;
  const A variance = dot(row, row, m.channels) / static_cast<A>(m.channels);
  const A factor = 1 / std::sqrt(variance + static_cast<A>(m.eps));
  for (int64_t c = 0; c < m.channels; ++c) row[c] *= factor;
  return factor;
}

// Pixels that go through each step together: a single one would wait for the end of every sum.
constexpr int kTogetherInSide = 8;

// The normalized convolutions of a few pixels, and the factors of their norms.
template <typename A>
struct SideRows {
  A *rows, *scratch, factor[kTogetherInSide];

  explicit SideRows(const Maps& m)
      : rows(dcnv3::cpu::scratch<A>((kTogetherInSide + 1) * m.channels)), scratch(rows + kTogetherInSide * m.channels) {}

  template <typename X>
  void compute(const Maps& m, const SideWeights<A>& w, Neighbors<X>& neighbors, int count) {
    for (int b = 0; b < count; ++b) convolve(m, neighbors.next(), w, scratch, rows + b * m.channels);
    for (int b = 0; b < count; ++b) factor[b] = normalize(m, rows + b * m.channels);
  }
};

// Calls `visit(first, count)` for the pixels of a range, a few at a time.
template <typename Visit>
void for_each_few(const Ranges& ranges, int64_t index, const Visit& visit) {
  for (int64_t first = ranges.first(index); first < ranges.end(index); first += kTogetherInSide)
    visit(first, static_cast<int>(std::min<int64_t>(kTogetherInSide, ranges.end(index) - first)));
}

template <typename A, typename X>
inline void scaled_gelu(const SideWeights<A>& w, int64_t channels, const A* __restrict__ from, X* __restrict__ to) {
  const A *__restrict__ scale = w.scale.data(), *__restrict__ shift = w.shift.data();
  for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<X>(gelu(from[c] * scale[c] + shift[c]));
}

template <typename X>
void side_forward(const Maps& m, const X* x, const SideWeights<Arithmetic<X>>& w, X* out) {
  const Ranges ranges = Ranges::of(m.pixels());
  parallel_for(ranges.count(), [&](int64_t index) {
    Neighbors<X> neighbors(m, x, ranges.first(index));
    SideRows<Arithmetic<X>> few(m);
    for_each_few(ranges, index, [&](int64_t first, int count) {
      few.compute(m, w, neighbors, count);
      for (int b = 0; b < count; ++b)
        scaled_gelu(w, m.channels, few.rows + b * m.channels, out + (first + b) * m.channels);
    });
  });
}

// The sums of one range of pixels: the gradients of taps, bias, scale and shift.
template <typename A>
struct SideSums {
  A *taps, *bias, *scale, *shift;

  SideSums(const Maps& m, A* row)
      : taps(row), bias(row + m.taps() * m.channels), scale(bias + m.channels), shift(scale + m.channels) {}
  static int64_t elements(const Maps& m) { return (m.taps() + 3) * m.channels; }
};

// Turns a pixel's normalized convolution and the gradient of its output into the gradient of the convolution, `to`.
template <typename A, typename X>
inline void norm_backward(const Maps& m, const SideWeights<A>& w, const X* __restrict__ grad, A factor,
                          const A* __restrict__ normal, const SideSums<A>& sums, A* __restrict__ to) {
  const A *__restrict__ scale = w.scale.data(), *__restrict__ shift = w.shift.data();
  A *__restrict__ to_scale = sums.scale, *__restrict__ to_shift = sums.shift, *__restrict__ to_bias = sums.bias;
  for (int64_t c = 0; c < m.channels; ++c) {
    const A slope = gelu_slope(normal[c] * scale[c] + shift[c]) * static_cast<A>(grad[c]);
    to_shift[c] += slope;
    to_scale[c] += slope * normal[c];
    to[c] = slope * scale[c];
  }
  const A mean = sum(to, m.channels) / static_cast<A>(m.channels);
  const A along = dot<A>(to, normal, m.channels) / static_cast<A>(m.channels);
  for (int64_t c = 0; c < m.channels; ++c) {
    to[c] = factor * (to[c] - mean - normal[c] * along);
    to_bias[c] += to[c];
  }
}

// Adds the products of a pixel's gradient with its neighbors to the gradients of the taps.
template <typename A, typename X>
inline void add_products(const X* const* rows, const Maps& m, const A* __restrict__ factor, A* __restrict__ sums) {
  for (int t = 0; t < m.taps(); ++t) {
    const X* __restrict__ row = rows[t];
    A* __restrict__ to = sums + t * m.channels;
    for (int64_t c = 0; c < m.channels; ++c) to[c] += factor[c] * static_cast<A>(row[c]);
  }
}

// Writes the gradient of the convolution's output to `grad_conv` and returns those of the weights, in the order of
// SideSums.
template <typename X>
std::vector<double> side_backward(const Maps& m, const X* grad, const X* x, const SideWeights<Arithmetic<X>>& w,
                                  Arithmetic<X>* grad_conv) {
  using A = Arithmetic<X>;
  const Ranges ranges = Ranges::with_sums(m.pixels());
  RangeSums<A> sums(SideSums<A>::elements(m), ranges.count());
  parallel_for(ranges.count(), [&](int64_t index) {
    Neighbors<X> neighbors(m, x, ranges.first(index)), again = neighbors;
    SideRows<A> few(m);
    const SideSums<A> to(m, sums.row(index));
    for_each_few(ranges, index, [&](int64_t first, int count) {
      A* slopes = grad_conv + first * m.channels;
      few.compute(m, w, neighbors, count);
      for (int b = 0; b < count; ++b)
        norm_backward(m, w, grad + (first + b) * m.channels, few.factor[b], few.rows + b * m.channels, to,
                      slopes + b * m.channels);
      for (int b = 0; b < count; ++b) add_products(again.next(), m, slopes + b * m.channels, to.taps);
    });
  });
  return sums.total();
}

// The gradient of x from that of the convolution's output; `reversed` are the weights after `reverse`.
template <typename X>
void side_backward_input(const Maps& m, const Arithmetic<X>* grad_conv, const SideWeights<Arithmetic<X>>& reversed,
                         X* to) {
  using A = Arithmetic<X>;
  const Ranges ranges = Ranges::of(m.pixels());
  parallel_for(ranges.count(), [&](int64_t index) {
    Neighbors<A> neighbors(m, grad_conv, ranges.first(index));
    A* memory = scratch<A>(m.channels);
    for (int64_t pixel = ranges.first(index); pixel < ranges.end(index); ++pixel)
      convolve(m, neighbors.next(), reversed, memory, to + pixel * m.channels);
  });
}

}  // namespace dcnv3::cpu
