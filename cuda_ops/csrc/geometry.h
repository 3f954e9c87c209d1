// The geometry of one DCNv3 call and its sampling positions: the one C++ definition, shared by host and device code.
//
// Shapes (all contiguous in C unless a stride is given):
//   x       (n, h, w, groups * group_channels)
//   offset  (n, ho, wo, groups * points * 2), last axis ordered [group][point][(x, y)]
//   mask    (n, ho, wo, groups * points)
//   output  (n, ho, wo, groups * group_channels)
// Offset and mask may be views of one wider projection: `offset_stride` and `mask_stride` are the distances in elements
// between output pixels.
#pragma once
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define DCNV3_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DCNV3_HOST_DEVICE inline
#endif

namespace dcnv3 {

struct Geometry {
  int64_t n, h, w, ho, wo;
  int64_t groups, group_channels;
  int64_t offset_stride, mask_stride;
  int kernel, stride, pad, dilation;
  int points;  // kernel^2, or kernel^2 - 1 with remove_center
  bool remove_center, softmax;
  double offset_scale;
};

// Column i and row j of the k-th sampling point. The order is k = i * kernel + j with i over x and j over y, as in the
// released checkpoints. With remove_center the index of every point after the center is smaller by one.
struct GridPoint {
  int i, j;
};

DCNV3_HOST_DEVICE GridPoint grid_point(int k, int kernel, bool remove_center) {
  const int full = k + (remove_center && k >= kernel * kernel / 2 ? 1 : 0);
  return {full / kernel, full % kernel};
}

// The sampling position along one axis, in pixels of the unpadded input: Eq. 2 with offset_scale multiplying both grid
// and offset,  o*s - p + h + (i*d - h + offset) * scale,  h = d(K-1)/2.
template <typename T>
DCNV3_HOST_DEVICE T sample_position(int64_t out, int tap, T offset, const Geometry& g) {
  const int half = g.dilation * (g.kernel - 1) / 2;
  const T origin = static_cast<T>(out * g.stride - g.pad + half);
  return origin + (static_cast<T>(tap * g.dilation - half) + offset) * static_cast<T>(g.offset_scale);
}

// The two neighbors of a position along one axis: pixels `base` and `base + 1`, clamped to an image of `size` pixels
// (for `size` 1, pixel 0 twice, the second with weight 0), and the position's distance from the first. `share` is the
// interpolation weight of each, and `slope` the derivative of that weight by the position. Both are 0 for a pixel that
// is more than one away, so a position far outside the image, or infinite, has no weight; a NaN position has NaN
// shares. At a pixel the derivative is the one to its right, from position -1 on, as in reference.py.
template <typename T>
struct AxisShares {
  T share[2], slope[2];
};

template <typename T>
struct AxisNeighbours : AxisShares<T> {
  int base;
  T distance;
};

template <typename T>
DCNV3_HOST_DEVICE void weigh_neighbour(T distance, T& share, T& slope) {
  const T inside = 1 - std::fabs(distance);
  share = inside < 0 ? T(0) : inside;  // in this order a NaN remains NaN
  slope = distance < -1 || distance >= 1 ? T(0) : distance < 0 ? T(1) : T(-1);
}

template <typename T>
DCNV3_HOST_DEVICE T first_neighbour(T position, int size) {
  const T last = static_cast<T>(size > 1 ? size - 2 : 0);
  const T below = std::floor(position);
  const T inside = below > 0 ? below : T(0);  // in this order a NaN becomes 0
  return inside < last ? inside : last;
}

template <typename T>
DCNV3_HOST_DEVICE AxisShares<T> axis_shares(T distance, int size) {
  AxisShares<T> axis;
  weigh_neighbour(distance, axis.share[0], axis.slope[0]);
  weigh_neighbour(distance - 1, axis.share[1], axis.slope[1]);
  if (size == 1) axis.share[1] = axis.slope[1] = 0;
  return axis;
}

template <typename T>
DCNV3_HOST_DEVICE AxisNeighbours<T> axis_neighbours(T position, int size) {
  const T base = first_neighbour(position, size), distance = position - base;
  return {axis_shares(distance, size), static_cast<int>(base), distance};
}

}  // namespace dcnv3
