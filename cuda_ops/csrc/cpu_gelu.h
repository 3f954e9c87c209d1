// GELU by its definition: x times the standard normal distribution's cdf at x. Written for one number without branches,
// so that a loop over channels is a loop over vectors.
#pragma once
#include <cmath>
#include <cstdint>

#include "cpu_vector.h"

namespace dcnv3::cpu {

template <typename A>
struct Normal {
  A cdf, density;
};

// The tail beyond |x| is e^(-x^2/2) times erfcx(|x|/sqrt(2))/2. The second factor is smooth: a polynomial in
// 1/(1 + 0.35|x|), our minimax fit on |x| <= 13.5, has a relative error of 3.2e-8. So small values of the cdf keep their
// relative precision, which 1 + erf(x) loses.
DCNV3_INLINE Normal<float> normal(float x) {
  const float peak = exp_negative(-0.5f * x * x), t = 1 / (1 + 0.35f * std::fabs(x));
  float series = -0.02912587672472f;
  series = series * t + 0.14387229084968567f;
  series = series * t - 0.25550466775894165f;
  series = series * t + 0.15892940759658813f;
  series = series * t - 0.022937219589948654f;
  series = series * t + 0.10543297231197357f;
  series = series * t + 0.11985243111848831f;
  series = series * t + 0.13985908031463623f;
  series = series * t + 0.1396215707063675f;
  const float tail = series * t * peak;
  return {x < 0 ? tail : 1 - tail, peak * 0.3989422804f};
}
inline Normal<double> normal(double x) {
  return {std::erfc(x * -0.70710678118654752) / 2, std::exp(-0.5 * x * x) * 0.39894228040143268};
}

template <typename A>
DCNV3_INLINE A gelu(A x) {
  return x * normal(x).cdf;
}

template <typename A>
DCNV3_INLINE A gelu_slope(A x) {
  const Normal<A> at = normal(x);
  return at.cdf + x * at.density;
}

}  // namespace dcnv3::cpu
