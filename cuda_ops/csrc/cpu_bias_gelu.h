// GELU of rows plus a bias, and its gradients, without storing the sum.
#pragma once
#include <cstdint>
#include <vector>

#include "cpu_gelu.h"
#include "cpu_rows.h"

namespace dcnv3::cpu {

template <typename X>
void bias_gelu_forward(int64_t rows, int64_t channels, const X* x, const Numbers<Arithmetic<X>>& bias, X* out) {
  using A = Arithmetic<X>;
  const Ranges ranges = Ranges::of(rows);
  parallel_for(ranges.count(), [&](int64_t index) {
    const A* __restrict__ shift = bias.data();
    for (int64_t row = ranges.first(index); row < ranges.end(index); ++row) {
      const X* __restrict__ from = x + row * channels;
      X* __restrict__ to = out + row * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<X>(gelu(static_cast<A>(from[c]) + shift[c]));
    }
  });
}

// Writes the gradient of x to `to` and returns that of the bias.
template <typename X>
std::vector<double> bias_gelu_backward(int64_t rows, int64_t channels, const X* grad, const X* x,
                                       const Numbers<Arithmetic<X>>& bias, X* to) {
  using A = Arithmetic<X>;
  const Ranges ranges = Ranges::with_sums(rows);
  RangeSums<A> sums(channels, ranges.count());
  parallel_for(ranges.count(), [&](int64_t index) {
    const A* __restrict__ shift = bias.data();
    A* __restrict__ total = sums.row(index);
    for (int64_t row = ranges.first(index); row < ranges.end(index); ++row) {
      const X *__restrict__ from = x + row * channels, *__restrict__ upper = grad + row * channels;
      X* __restrict__ out = to + row * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const A slope = static_cast<A>(upper[c]) * gelu_slope(static_cast<A>(from[c]) + shift[c]);
        total[c] += slope;
        out[c] = static_cast<X>(slope);
      }
    }
  });
  return sums.total();
}

}  // namespace dcnv3::cpu
