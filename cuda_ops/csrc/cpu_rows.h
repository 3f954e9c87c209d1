// Work on rows of channels, one row per pixel: conversion of weights, sums, and gradients that all pixels share.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "cpu.h"
#include "cpu_task.h"
#include "cpu_vector.h"

namespace dcnv3::cpu {

// A vector register that crosses a line of the cache is read in two parts, so arrays start at a line.
template <typename A>
struct LineAllocator {
  using value_type = A;
  static constexpr std::align_val_t kLine{64};

  LineAllocator() = default;
  template <typename B>
  LineAllocator(const LineAllocator<B>&) {}
  A* allocate(std::size_t count) { return static_cast<A*>(::operator new(count * sizeof(A), kLine)); }
  void deallocate(A* memory, std::size_t) { ::operator delete(memory, kLine); }
  bool operator==(const LineAllocator&) const { return true; }
  bool operator!=(const LineAllocator&) const { return false; }
};

template <typename A>
using Numbers = std::vector<A, LineAllocator<A>>;

template <typename A, typename X>
Numbers<A> converted(const X* from, int64_t count) {
  return Numbers<A>(from, from + count);
}

template <typename A>
inline A sum_of_lanes(const typename VectorOf<A>::type& lanes) {
  if constexpr (kLanes<A> < 4) return lanes[0] + lanes[1];
  typename VectorOf<A>::quarter parts[std::max(1, kLanes<A> / 4)];
  std::memcpy(parts, &lanes, sizeof(lanes));
  for (int i = 1; i < kLanes<A> / 4; ++i) parts[0] += parts[i];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

template <typename A>
inline A sum(const A* a, int64_t count) {
  using V = typename VectorOf<A>::type;
  V lanes = {};
  int64_t c = 0;
  for (; c + kLanes<A> <= count; c += kLanes<A>) lanes += *reinterpret_cast<const V*>(a + c);
  A total = sum_of_lanes<A>(lanes);
  for (; c < count; ++c) total += a[c];
  return total;
}

template <typename A>
inline A dot(const A* a, const A* b, int64_t count) {
  using V = typename VectorOf<A>::type;
  V lanes = {};
  int64_t c = 0;
  for (; c + kLanes<A> <= count; c += kLanes<A>)
    lanes += *reinterpret_cast<const V*>(a + c) * *reinterpret_cast<const V*>(b + c);
  A total = sum_of_lanes<A>(lanes);
  for (; c < count; ++c) total += a[c] * b[c];
  return total;
}

// Ranges of pixels, the same for every number of threads. A backward pass has at most kMostRanges, because each has its
// own sums.
constexpr int64_t kPixelsPerRange = 32, kMostRanges = 256;

struct Ranges {
  int64_t pixels, length;

  static Ranges of(int64_t pixels) { return {pixels, kPixelsPerRange}; }
  static Ranges with_sums(int64_t pixels) {
    return {pixels, std::max(kPixelsPerRange, (pixels + kMostRanges - 1) / kMostRanges)};
  }
  int64_t count() const { return (pixels + length - 1) / length; }
  int64_t first(int64_t index) const { return index * length; }
  int64_t end(int64_t index) const { return std::min(pixels, (index + 1) * length); }
};

// Gradients of weights: each range of pixels adds to its own row, and the rows are then added in order, in double.
template <typename A>
struct RangeSums {
  int64_t elements, ranges;
  Numbers<A> rows;

  RangeSums(int64_t elements, int64_t ranges) : elements(elements), ranges(ranges), rows(elements * ranges) {}
  A* row(int64_t range) { return rows.data() + range * elements; }
  std::vector<double> total() const {
    std::vector<double> total(elements);
    for (int64_t range = 0; range < ranges; ++range)
      for (int64_t i = 0; i < elements; ++i) total[i] += rows[range * elements + i];
    return total;
  }
};

}  // namespace dcnv3::cpu
