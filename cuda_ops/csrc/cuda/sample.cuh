// The sampling positions and weights of a pair of output pixel and group, and the four neighbors in x of each position.
//
// Every loop below works on batches of N points: all nine for K = 3, one column for K = 5 and K = 7, one point for any
// other K (kKernel 0). A batch's offsets and weights are read together, so that the reads overlap.
#pragma once
#include "call.cuh"

namespace dcnv3::cuda {

template <int kKernel>
inline constexpr int kBatch = kKernel == 3 ? 9 : kKernel == 0 ? 1 : kKernel;

// `position + 1.5 * 2^23`, rounded down: its low bits then are the floor of the position, for positions in +-2^22.
inline constexpr float kWhole = 12582912.0f;
inline constexpr int32_t kWholeBits = 0x4b400000;
inline constexpr int64_t kMaxSize = int64_t{1} << 22;

DCNV3_HOST_DEVICE float add_whole_down(float position) {
#ifdef __CUDA_ARCH__
  return __fadd_rd(position, kWhole);
#else
  if (!(std::fabs(position) < 0x1p22f)) return position + kWhole;
  return static_cast<float>(std::floor(position) + static_cast<double>(kWhole));
#endif
}

// 1 - |distance| clamped to [0, 1]; NaN becomes 0.
DCNV3_HOST_DEVICE float hat(float distance) {
#ifdef __CUDA_ARCH__
  return __saturatef(1.0f - fabsf(distance));
#else
  const float inside = 1.0f - std::fabs(distance);
  return inside > 0.0f ? inside : 0.0f;
#endif
}

DCNV3_HOST_DEVICE int32_t clamped(int32_t value, int32_t low, int32_t high) {
#ifdef __CUDA_ARCH__
  return max(min(value, high), low);
#else
  return value < low ? low : value > high ? high : value;
#endif
}

// As axis_neighbours of geometry.h, but `cell` is `base + kFirstCell<A>`: kernels subtract it later, with the
// launch's constant `first_cells`.
template <typename A>
struct Axis {
  int32_t cell;
  A share[2], slope[2];
};

template <typename A>
inline constexpr int32_t kFirstCell = std::is_same_v<A, float> ? kWholeBits : 0;

// For float this takes 18 full-rate instructions (9 if no slope is used). Conversions and compares would run at a
// quarter and half of the rate. Shares of a NaN position are 0 here; `neighbours` below makes the result NaN.
DCNV3_HOST_DEVICE Axis<float> axis_at(float position, int64_t size) {
  const int32_t last = kWholeBits + static_cast<int32_t>(size > 1 ? size - 2 : 0);
  const float to_second = size > 1 ? 1.0f : kInfinity<float>;
  const float floor = add_whole_down(position);
  Axis<float> axis;
  axis.cell = clamped(static_cast<int32_t>(float_bits(floor)), kWholeBits, last);
  const float base = bits_float(static_cast<uint32_t>(axis.cell));
  const float first = position - (base - kWhole), step = floor - base;
  axis.share[0] = hat(first);
  axis.share[1] = hat(first - to_second);
  // hat of a whole number is 1 for zero and else 0: here it tells whether the position is in the cell to the left of
  // the neighbor or in the one to its right.
  axis.slope[0] = hat(step + 1.0f) - hat(step);
  axis.slope[1] = hat(step - to_second + 1.0f) - hat(step - to_second);
  return axis;
}

DCNV3_HOST_DEVICE Axis<double> axis_at(double position, int64_t size) {
  const AxisNeighbours<double> near = axis_neighbours(position, static_cast<int>(size));
  return {near.base, {near.share[0], near.share[1]}, {near.slope[0], near.slope[1]}};
}

template <typename A>
struct Neighbours {
  Axis<A> x, y;
};

template <typename A>
DCNV3_HOST_DEVICE Neighbours<A> neighbours(A px, A py, const Geometry& g) {
  Neighbours<A> near{axis_at(px, g.w), axis_at(py, g.h)};
  if (px != px || py != py) near.x.share[0] = kNaN<A>;
  return near;
}

// The shift of a softmax's exponents, and the factor for their exponentials; {0, 1} if there is no softmax.
template <typename A>
struct Normaliser {
  A shift, scale;
};

template <typename A, int N>
struct Points {
  A px[N], py[N], weight[N];
};

// The offsets and masks of one (pixel, group) as stored; M is float or x's type.
template <typename M>
struct WeightRows {
  const M *offset, *mask;
};

template <typename M>
DCNV3_HOST_DEVICE WeightRows<M> weight_rows(const Call& c, const Slot& s) {
  const int64_t first = static_cast<int64_t>(s.group) * c.g.points;
  return {static_cast<const M*>(c.t.offset) + s.pixel * c.g.offset_stride + 2 * first,
          static_cast<const M*>(c.t.mask) + s.pixel * c.g.mask_stride + first};
}

template <typename M>
DCNV3_HOST_DEVICE Arithmetic<M> read_weight(const M* mask) {
  return read_pack<M, 1>(mask)[0];
}

template <typename M>
DCNV3_HOST_DEVICE Normaliser<Arithmetic<M>> normaliser_of(const M* mask, int points) {
  using A = Arithmetic<M>;
  A shift = -kInfinity<A>, sum = 0;
  for (int k = 0; k < points; ++k) shift = larger(shift, read_weight(mask + k));
  for (int k = 0; k < points; ++k) sum += exponential(read_weight(mask + k) - shift);
  return {shift, reciprocal(sum)};
}

// Calls `read` with a null pointer to the type in which offset and mask are stored.
template <typename T, typename Read>
DCNV3_HOST_DEVICE auto with_weight_type(const Call& c, const Read& read) {
  if constexpr (sizeof(T) == 2) {
    if (c.t.float_weights) return read(static_cast<const float*>(nullptr));
  }
  return read(static_cast<const T*>(nullptr));
}

template <typename T>
DCNV3_HOST_DEVICE Normaliser<Arithmetic<T>> normaliser(const Call& c, const Slot& s) {
  if (!c.g.softmax) return {0, 1};
  return with_weight_type<T>(c, [&](auto* type) {
    using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
    return normaliser_of(weight_rows<M>(c, s).mask, c.g.points);
  });
}

template <int kKernel>
DCNV3_HOST_DEVICE int kernel_size(const Geometry& g) {
  return kKernel > 0 ? kKernel : g.kernel;
}

// The index among the P points of kernel position `full` = i * K + j; for a removed center, that of the next point.
template <int kKernel>
DCNV3_HOST_DEVICE int point_at(const Geometry& g, int full) {
  const int size = kernel_size<kKernel>(g), skip = g.remove_center ? 1 : 0;
  return full - (full > size * size / 2 ? skip : 0);
}

template <int kKernel>
DCNV3_HOST_DEVICE bool is_removed(const Geometry& g, int full) {
  const int size = kernel_size<kKernel>(g);
  return g.remove_center && full == size * size / 2;
}

// Reads kernel positions first to first + N - 1. With a softmax the weights are still logits. A removed center has no
// weight in either case.
template <int kKernel, int N, typename M>
DCNV3_HOST_DEVICE Points<Arithmetic<M>, N> read_points(const Call& c, const Slot& s, int first) {
  using A = Arithmetic<M>;
  const int size = kernel_size<kKernel>(c.g), centre = size * size / 2, skip = c.g.remove_center ? 1 : 0;
  // Pointers for positions before and after the center: a constant position then has a constant address offset.
  const WeightRows<M> early = weight_rows<M>(c, s), late{early.offset - 2 * skip, early.mask - skip};
  const A nothing = c.g.softmax ? -kInfinity<A> : A(0);
  Points<A, N> points;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int full = first + n;
    const Pack<M, 2> shift = read_pack<M, 2>((full > centre ? late.offset : early.offset) + 2 * full);
    const A weight = read_weight((full > centre ? late.mask : early.mask) + full);
    const int i = kKernel > 0 ? full / size : static_cast<int>(c.kernel.quotient(full)), j = full - i * size;
    points.px[n] = sample_position(s.ox, i, shift[0], c.g);
    points.py[n] = sample_position(s.oy, j, shift[1], c.g);
    points.weight[n] = is_removed<kKernel>(c.g, full) ? nothing : weight;
  }
  return points;
}

template <typename A, int N>
DCNV3_HOST_DEVICE void softmax_in_registers(A (&weight)[N]) {
  A shift = weight[0], sum = 0;
#pragma unroll
  for (int n = 1; n < N; ++n) shift = larger(shift, weight[n]);
#pragma unroll
  for (int n = 0; n < N; ++n) sum += weight[n] = exponential(weight[n] - shift);
  const A scale = reciprocal(sum);
#pragma unroll
  for (int n = 0; n < N; ++n) weight[n] *= scale;
}

// As `read_points`, with final weights. `norm` is used if the batch does not hold all points.
template <typename T, int kKernel, int N>
DCNV3_HOST_DEVICE Points<Arithmetic<T>, N> points_of(const Call& c, const Slot& s, int first,
                                                     const Normaliser<Arithmetic<T>>& norm) {
  Points<Arithmetic<T>, N> points = with_weight_type<T>(c, [&](auto* type) {
    using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
    return read_points<kKernel, N, M>(c, s, first);
  });
  if (!c.g.softmax) return points;
  if constexpr (N == kKernel * kKernel) {
    softmax_in_registers(points.weight);
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) points.weight[n] = exponential(points.weight[n] - norm.shift) * norm.scale;
  }
  return points;
}

// A thread's packs of the four neighbors, [row][column].
template <typename T, int V, int L>
struct FourPixels {
  Pack<T, V> pack[2][2][L];
};

// Indices of packs within an image have 32 bits if a pack is a vector: the plan checks that they fit.
template <int V>
using PackIndex = std::conditional_t<V == 1, int64_t, uint32_t>;

template <typename T, int V, int L>
DCNV3_HOST_DEVICE FourPixels<T, V, L> read_four(const Call& c, const T* const (&from)[L],
                                                const Neighbours<Arithmetic<T>>& near) {
  using Index = PackIndex<V>;
  const Index corner = static_cast<Index>(near.y.cell) * static_cast<Index>(c.row_packs) +
                       static_cast<Index>(near.x.cell) * static_cast<Index>(c.pixel_packs) -
                       static_cast<Index>(c.first_cells);
  FourPixels<T, V, L> four;
#pragma unroll
  for (int l = 0; l < L; ++l) {
    // In bytes: with elements the compiler would scale each of the four sums separately.
    const char* first = reinterpret_cast<const char*>(from[l]) + static_cast<int64_t>(corner) * (V * sizeof(T));
    four.pack[0][0][l] = read_pack<T, V>(reinterpret_cast<const T*>(first));
    four.pack[0][1][l] = read_pack<T, V>(reinterpret_cast<const T*>(first + c.step_x));
    four.pack[1][0][l] = read_pack<T, V>(reinterpret_cast<const T*>(first + c.step_y));
    four.pack[1][1][l] = read_pack<T, V>(reinterpret_cast<const T*>(first + c.step_y + c.step_x));
  }
  return four;
}

}  // namespace dcnv3::cuda
