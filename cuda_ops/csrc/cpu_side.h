// The side branch of the DCNv3 layer in one pass over its input: depth-wise convolution, LayerNorm over the channels,
// GELU. Nothing between input and output is stored: the backward pass computes the convolution and the norm again, a few
// pixels at a time.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu_gelu.h"
#include "cpu_rows.h"
#include "cpu_window.h"

namespace dcnv3::cpu {

template <typename A>
struct SideWeights {
  Taps<A> taps;
  Numbers<A> scale, shift;

  template <typename X>
  SideWeights(const Maps& m, const X* weight, const X* bias, const X* scale, const X* shift)
      : taps{Numbers<A>(m.taps() * m.row_length()), converted<A>(bias, m.channels)},
        scale(converted<A>(scale, m.channels)),
        shift(converted<A>(shift, m.channels)) {
    taps.bias.resize(m.row_length());
    for (int64_t c = 0; c < m.channels; ++c)
      for (int t = 0; t < m.taps(); ++t)
        taps.weight[t * m.row_length() + c] = static_cast<A>(weight[c * m.taps() + t]);
  }

  // For the gradient of the input: the convolution with the taps in reverse order and without bias.
  Taps<A> reversed(const Maps& m) const {
    Taps<A> back{taps.weight, Numbers<A>(m.row_length())};
    const int64_t length = m.row_length();
    for (int t = 0; t < m.taps(); ++t)
      std::copy_n(taps.weight.begin() + t * length, length, back.weight.begin() + (m.taps() - 1 - t) * length);
    return back;
  }
};

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

// What a task computes for a few pixels: the rows of each step, in the scratch memory of its thread.
template <typename A>
struct SideRows {
  const Maps& m;
  Window<A> window;
  A *rows, *slopes, factor[kFew];

  explicit SideRows(const Maps& m)
      : m(m), window(m), rows(scratch<A>(2 * kFew * m.row_length())), slopes(rows + kFew * m.row_length()) {}

  A* row(int b) const { return rows + b * m.row_length(); }
  A* slope(int b) const { return slopes + b * m.row_length(); }

  template <typename X>
  void normalized(const X* x, const Run& run, const Taps<A>& taps) {
    convolve(window, x, run, taps, rows);
    for (int b = 0; b < run.count; ++b) factor[b] = normalize(m, row(b));
  }
};

// Calls `visit(run)` for all pixels of a range.
template <typename Visit>
void for_each_run(const Maps& m, const Ranges& ranges, int64_t index, const Visit& visit) {
  for (int64_t first = ranges.first(index), end = ranges.end(index); first < end;) {
    const Run run = Run::at(m, first, end);
    visit(run);
    first += run.count;
  }
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
    SideRows<Arithmetic<X>> few(m);
    for_each_run(m, ranges, index, [&](const Run& run) {
      few.normalized(x, run, w.taps);
      for (int b = 0; b < run.count; ++b)
        scaled_gelu(w, m.channels, few.row(b), out + (run.first + b) * m.channels);
    });
  });
}

// The sums of one range of pixels: the gradients of taps, bias, scale and shift, in rows of row_length.
template <typename A>
struct SideSums {
  A *taps, *bias, *scale, *shift;

  SideSums(const Maps& m, A* row)
      : taps(row),
        bias(row + m.taps() * m.row_length()),
        scale(bias + m.row_length()),
        shift(scale + m.row_length()) {}
  static int64_t elements(const Maps& m) { return (m.taps() + 3) * m.row_length(); }
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

// Writes the gradient of the convolution's output to `grad_conv` and returns those of the weights, in the order of
// SideSums.
template <typename X>
std::vector<double> side_backward(const Maps& m, const X* grad, const X* x, const SideWeights<Arithmetic<X>>& w,
                                  Arithmetic<X>* grad_conv) {
  using A = Arithmetic<X>;
  const Ranges ranges = Ranges::with_sums(m.pixels());
  RangeSums<A> sums(SideSums<A>::elements(m), ranges.count());
  parallel_for(ranges.count(), [&](int64_t index) {
    SideRows<A> few(m);
    const SideSums<A> to(m, sums.row(index));
    for_each_run(m, ranges, index, [&](const Run& run) {
      few.normalized(x, run, w.taps);
      for (int b = 0; b < run.count; ++b) {
        const int64_t at = (run.first + b) * m.channels;
        norm_backward(m, w, grad + at, few.factor[b], few.row(b), to, few.slope(b));
        std::copy_n(few.slope(b), m.channels, grad_conv + at);
      }
      add_products(few.window, x, run, few.slopes, to.taps);
    });
  });
  return sums.total();
}

// The gradient of x from that of the convolution's output.
template <typename X>
void side_backward_input(const Maps& m, const Arithmetic<X>* grad_conv, const Taps<Arithmetic<X>>& reversed, X* to) {
  const Ranges ranges = Ranges::of(m.pixels());
  parallel_for(ranges.count(), [&](int64_t index) {
    SideRows<Arithmetic<X>> few(m);
    for_each_run(m, ranges, index, [&](const Run& run) {
      convolve(few.window, grad_conv, run, reversed, few.rows);
      for (int b = 0; b < run.count; ++b) std::copy_n(few.row(b), m.channels, to + (run.first + b) * m.channels);
    });
  });
}

}  // namespace dcnv3::cpu
