// Number types of the CUDA kernels: storage types, their arithmetic type, and vector loads and stores.
//
// Everything here also compiles as plain C++, so that the kernels' bodies can be run and tested without a GPU.
#pragma once
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "geometry.h"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "dcnv3 wants compute capability 8.0 or newer: bfloat16, and reductions over a warp"
#endif

namespace dcnv3::cuda {

// For storage only. cuda_fp16.h and cuda_bf16.h would more than double the compile time of every kernel file.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type in which a stored type is computed: double for double, float for all others.
template <typename T>
using Arithmetic = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename A>
inline constexpr A kInfinity = std::numeric_limits<A>::infinity();
template <typename A>
inline constexpr A kNaN = std::numeric_limits<A>::quiet_NaN();

DCNV3_HOST_DEVICE uint32_t float_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

DCNV3_HOST_DEVICE float bits_float(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

#ifndef __CUDA_ARCH__
// IEEE 754 binary16 in software, rounding to nearest even.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

inline uint16_t float_to_half(float value) {
  const uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    return sign | static_cast<uint16_t>(std::nearbyint(bits_float(magnitude) * 0x1p24f));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}
#endif

DCNV3_HOST_DEVICE float to_arithmetic(float value) { return value; }
DCNV3_HOST_DEVICE double to_arithmetic(double value) { return value; }
DCNV3_HOST_DEVICE float to_arithmetic(BFloat16 value) { return bits_float(static_cast<uint32_t>(value.bits) << 16); }
DCNV3_HOST_DEVICE float to_arithmetic(Half value) {
#ifdef __CUDA_ARCH__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  return half_to_float(value.bits);
#endif
}

// Rounds to nearest even.
template <typename T>
DCNV3_HOST_DEVICE T from_arithmetic(Arithmetic<T> value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
#ifdef __CUDA_ARCH__
    BFloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    const uint32_t bits = float_bits(value);
    if (value != value) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
  } else if constexpr (std::is_same_v<T, Half>) {
#ifdef __CUDA_ARCH__
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    return {float_to_half(value)};
#endif
  } else {
    return value;
  }
}

// V consecutive values of T as stored in memory, read and written by one access of up to 128 bits, with the alignment
// that this requires. Half types are extracted from whole words: half the instructions of reading them one by one.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  static constexpr bool kWords = sizeof(T) == 2 && V > 1;
  std::conditional_t<kWords, uint32_t, T> raw[kWords ? V / 2 : V];

  DCNV3_HOST_DEVICE Arithmetic<T> operator[](int v) const {
    if constexpr (!kWords) {
      return to_arithmetic(raw[v]);
    } else if constexpr (std::is_same_v<T, BFloat16>) {
      const uint32_t word = raw[v / 2];
      return bits_float(v % 2 ? word & 0xffff0000u : word << 16);
    } else {
      const uint32_t word = raw[v / 2];
      return to_arithmetic(T{static_cast<uint16_t>(v % 2 ? word >> 16 : word)});
    }
  }
};

template <typename T, int V>
DCNV3_HOST_DEVICE Pack<T, V> pack_of(const Arithmetic<T> (&values)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof pack.raw / sizeof pack.raw[0]); ++i) {
    if constexpr (Pack<T, V>::kWords) {
      const uint32_t low = from_arithmetic<T>(values[2 * i]).bits, high = from_arithmetic<T>(values[2 * i + 1]).bits;
      pack.raw[i] = low | high << 16;
    } else {
      pack.raw[i] = from_arithmetic<T>(values[i]);
    }
  }
  return pack;
}

// Reads memory that nothing writes during the launch.
template <typename T, int V>
DCNV3_HOST_DEVICE Pack<T, V> read_pack(const T* from) {
  Pack<T, V> pack;
#ifdef __CUDA_ARCH__
  using Word = std::conditional_t<
      sizeof pack == 16, uint4,
      std::conditional_t<sizeof pack == 8, uint2, std::conditional_t<sizeof pack == 4, uint32_t, uint16_t>>>;
  static_assert(sizeof(Word) == sizeof pack);
  const Word word = __ldg(reinterpret_cast<const Word*>(from));
  memcpy(&pack, &word, sizeof pack);
#else
  assert(reinterpret_cast<uintptr_t>(from) % sizeof pack == 0);
  std::memcpy(&pack, from, sizeof pack);
#endif
  return pack;
}

template <typename T, int V>
DCNV3_HOST_DEVICE void write_pack(T* to, const Arithmetic<T> (&values)[V]) {
#ifndef __CUDA_ARCH__
  assert(reinterpret_cast<uintptr_t>(to) % sizeof(Pack<T, V>) == 0);
#endif
  *reinterpret_cast<Pack<T, V>*>(to) = pack_of<T, V>(values);
}

// e^x for x <= 0 and 1/x for x >= 1, for the softmax. In float on the device within two units in the last place; a
// subnormal e^x becomes 0.
DCNV3_HOST_DEVICE float exponential(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * 1.4426950408889634f));
  return result;
#else
  return std::exp(x);
#endif
}
DCNV3_HOST_DEVICE double exponential(double x) { return std::exp(x); }

DCNV3_HOST_DEVICE float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  return __fdividef(1.0f, x);
#else
  return 1.0f / x;
#endif
}
DCNV3_HOST_DEVICE double reciprocal(double x) { return 1.0 / x; }

template <typename A>
DCNV3_HOST_DEVICE A larger(A a, A b) {
#ifdef __CUDA_ARCH__
  return fmax(a, b);
#else
  return std::fmax(a, b);
#endif
}

}  // namespace dcnv3::cuda
