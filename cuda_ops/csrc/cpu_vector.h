// Vectors as wide as the instruction set's registers, and the operations on them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

namespace dcnv3::cpu {

#define DCNV3_INLINE __attribute__((always_inline)) inline

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

// Each corner has one accumulator of this many registers. Below AVX-512 there are 16 registers: with two per
// accumulator only a weight and a row fit besides, and the latency of the multiply-adds is hidden.
constexpr int kRegistersPerRow = kRegisterBytes == 64 ? 1 : 2;

template <typename A>
constexpr int kLanes = kRegisterBytes / sizeof(A);

// Channels that are computed at once; group channels are padded to a multiple of it.
template <typename A>
constexpr int kRow = kLanes<A>* kRegistersPerRow;

// Output pixels that are prepared at once, one per lane.
constexpr int kBlock = 16;

template <typename A>
struct VectorOf {
  typedef A type __attribute__((vector_size(kRegisterBytes), aligned(sizeof(A)), may_alias));
  typedef A quarter __attribute__((vector_size(4 * sizeof(A)), aligned(sizeof(A)), may_alias));
};

// The lanes with these numbers of `a` followed by `b`. GCC has __builtin_shufflevector only from version 12 on.
template <int... kLane, typename V>
inline V shuffle(const V& a, const V& b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, kLane...);
#else
  using Lane = std::conditional_t<sizeof(a[0]) == 8, int64_t, int32_t>;
  typedef Lane Lanes __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(a, b, Lanes{kLane...});
#endif
}

// kRow channels of one pixel.
template <typename A>
struct Row {
  using V = typename VectorOf<A>::type;
  V part[kRegistersPerRow];

  static Row load(const A* from) {
    Row row;
    for (int r = 0; r < kRegistersPerRow; ++r) row.part[r] = reinterpret_cast<const V*>(from)[r];
    return row;
  }
  void store(A* to) const {
    for (int r = 0; r < kRegistersPerRow; ++r) reinterpret_cast<V*>(to)[r] = part[r];
  }
  // `weight` is a scalar, or a vector with the scalar in every lane.
  template <typename W>
  void add_scaled(W weight, const Row& row) {
    for (int r = 0; r < kRegistersPerRow; ++r) part[r] += weight * row.part[r];
  }
};

template <typename A>
Row<A> operator+(const Row<A>& a, const Row<A>& b) {
  Row<A> sum;
  for (int r = 0; r < kRegistersPerRow; ++r) sum.part[r] = a.part[r] + b.part[r];
  return sum;
}

// The weights of kTogether neighboring lanes, each of which scales a row. In AVX-512, broadcasting one number from
// memory takes as long as reading a whole register, so the lanes are read at once and broadcast between registers; the
// empty asm keeps the compiler from reading them again for each lane. With narrower registers, broadcasting from memory
// is faster.
#if defined(__AVX512F__)
constexpr int kTogether = 4;

inline __m512 spread(__m512 lanes, __m512i lane) { return _mm512_permutexvar_ps(lane, lanes); }
inline __m512d spread(__m512d lanes, __m512i lane) { return _mm512_permutexvar_pd(lane, lanes); }

template <typename A>
struct Weights {
  using V = typename VectorOf<A>::type;
  int first;  // first weight of the register that holds lane b
  __m512i lane[kTogether];

  explicit Weights(int b) : first(b / kLanes<A> * kLanes<A>) {
    for (int i = 0; i < kTogether; ++i)
      lane[i] = sizeof(A) == 4 ? _mm512_set1_epi32(b - first + i) : _mm512_set1_epi64(b - first + i);
  }
  V load(const A* weights) const {
    V lanes = *reinterpret_cast<const V*>(weights + first);
    asm("" : "+v"(lanes));
    return lanes;
  }
  V of(const V& lanes, int i) const { return (V)spread(lanes, lane[i]); }
};
#else
constexpr int kTogether = 1;

template <typename A>
struct Weights {
  int first;

  explicit Weights(int b) : first(b) {}
  const A* load(const A* weights) const { return weights + first; }
  A of(const A* lanes, int i) const { return lanes[i]; }
};
#endif

template <typename A>
inline void transpose_4x4(typename VectorOf<A>::quarter (&m)[4]) {
  using Quarter = typename VectorOf<A>::quarter;
  const Quarter a = shuffle<0, 4, 1, 5>(m[0], m[1]), b = shuffle<0, 4, 1, 5>(m[2], m[3]);
  const Quarter c = shuffle<2, 6, 3, 7>(m[0], m[1]), d = shuffle<2, 6, 3, 7>(m[2], m[3]);
  m[0] = shuffle<0, 1, 4, 5>(a, b), m[1] = shuffle<2, 3, 6, 7>(a, b);
  m[2] = shuffle<0, 1, 4, 5>(c, d), m[3] = shuffle<2, 3, 6, 7>(c, d);
}

// Dot products use vectors of 8 floats or 4 doubles: summing within a vector needs shuffles, and half a wide register
// needs fewer of them.
#if defined(__AVX__)
template <typename A>
constexpr int kDotLanes = std::is_same_v<A, float> ? 8 : 4;
#else
template <typename A>
constexpr int kDotLanes = 4;
#endif

template <typename A>
struct DotVectorOf {
  typedef A type __attribute__((vector_size(kDotLanes<A> * sizeof(A)), aligned(sizeof(A)), may_alias));
};

template <typename A>
using DotVector = typename DotVectorOf<A>::type;

// The sums of neighboring lanes: in each four lanes, two sums of `a` and then two of `b`.
template <typename V>
inline V add_pairs(const V& a, const V& b) {
  if constexpr (sizeof(V) / sizeof(a[0]) == 8) {
    return shuffle<0, 2, 8, 10, 4, 6, 12, 14>(a, b) +
           shuffle<1, 3, 9, 11, 5, 7, 13, 15>(a, b);
  } else {
    return shuffle<0, 2, 4, 6>(a, b) + shuffle<1, 3, 5, 7>(a, b);
  }
}

// The sums over the lanes of four vectors.
template <typename A>
inline typename VectorOf<A>::quarter sums(const DotVector<A> (&v)[4]) {
  const DotVector<A> four = add_pairs(add_pairs(v[0], v[1]), add_pairs(v[2], v[3]));
  typename VectorOf<A>::quarter halves[kDotLanes<A> / 4];
  std::memcpy(halves, &four, sizeof(four));
  for (int i = 1; i < kDotLanes<A> / 4; ++i) halves[0] += halves[i];
  return halves[0];
}

// exp(x) for x <= 0, within 2 ulp: 2^n times a Taylor series on |r| <= ln(2)/2, in which the eighth term is 5e-9.
// Returns 0 for x < -87, where e^x nears the smallest normal number, and NaN for NaN.
inline float exp_negative(float x) {
  const float bounded = x < -87.0f ? -87.0f : x;
  const float n = std::floor(bounded * 1.44269504f + 0.5f);
  const float r = (bounded - n * 0.693145752f) - n * 1.42860677e-6f;  // ln(2) in two parts: n times the first is exact
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < -87.0f ? 0.0f : series * power;
}
inline double exp_negative(double x) { return std::exp(x); }

// Copies from the layout of tensors, [pixel][value], to that of blocks, [value][lane] with a pixel per lane, and back.
// Only `pixels` of the block's lanes exist; the others repeat the last pixel, or are not stored. Inlined, so that a
// constant number of values unrolls the loops.
template <typename A, typename T>
DCNV3_INLINE void load_transposed(const T* from, int64_t pixel_stride, int pixels, int values, A* to) {
  const auto pixel = [&](int b) { return from + (b < pixels ? b : pixels - 1) * pixel_stride; };
  if constexpr (std::is_same_v<A, T>) {
    using Quarter = typename VectorOf<A>::quarter;
    for (int b = 0; values >= 4 && b < kBlock; b += 4) {
      const T* rows[4] = {pixel(b), pixel(b + 1), pixel(b + 2), pixel(b + 3)};
      for (int v = 0; v < values; v += 4) {
        const int at = v + 4 <= values ? v : values - 4;  // the last tile overlaps the one before
        Quarter m[4];
        for (int r = 0; r < 4; ++r) m[r] = *reinterpret_cast<const Quarter*>(rows[r] + at);
        transpose_4x4<A>(m);
        for (int r = 0; r < 4; ++r) *reinterpret_cast<Quarter*>(to + (at + r) * kBlock + b) = m[r];
      }
    }
    if (values >= 4) return;
  }
  for (int b = 0; b < kBlock; ++b)
    for (int v = 0; v < values; ++v) to[v * kBlock + b] = static_cast<A>(pixel(b)[v]);
}

template <typename A, typename T>
DCNV3_INLINE void store_transposed(const A* from, int64_t pixel_stride, int pixels, int values, T* to) {
  int done = 0;
  if constexpr (std::is_same_v<A, T>) {
    using Quarter = typename VectorOf<A>::quarter;
    for (; values >= 4 && done + 4 <= pixels; done += 4) {
      for (int v = 0; v < values; v += 4) {
        const int at = v + 4 <= values ? v : values - 4;
        Quarter m[4];
        for (int r = 0; r < 4; ++r) m[r] = *reinterpret_cast<const Quarter*>(from + (at + r) * kBlock + done);
        transpose_4x4<A>(m);
        for (int r = 0; r < 4; ++r) *reinterpret_cast<Quarter*>(to + (done + r) * pixel_stride + at) = m[r];
      }
    }
  }
  for (int b = done; b < pixels; ++b)
    for (int v = 0; v < values; ++v) to[b * pixel_stride + v] = static_cast<T>(from[v * kBlock + b]);
}

}  // namespace dcnv3::cpu
