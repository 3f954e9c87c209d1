// The gradients of offset and mask. `lanes` threads (a power of two up to 32) compute one output pixel and group; each
// sums over its own channels, and shuffles add the sums of the threads.
//
// With d the dot product of the output's gradient and one neighboring pixel, w a point's weight and s the shares:
//   gradient of the weight     sum over neighbors of s_y s_x d
//   gradient of the position   w * sum over neighbors of s_y s_x' d (and s_y' s_x d),   s' the share's slope
// So four dot products per point give all three.
#pragma once
#include "sample.cuh"

namespace dcnv3::cuda {

// The sums over channels that the gradients of N consecutive points need.
template <typename A, int N>
struct PointSums {
  A weight[N], x[N], y[N];
};

template <typename A, int N>
DCNV3_HOST_DEVICE void set_point(PointSums<A, N>& sums, int n, const Neighbours<A>& near, const A (&dot)[2][2]) {
  const A top = near.x.share[0] * dot[0][0] + near.x.share[1] * dot[0][1];
  const A bottom = near.x.share[0] * dot[1][0] + near.x.share[1] * dot[1][1];
  const A left = near.y.share[0] * dot[0][0] + near.y.share[1] * dot[1][0];
  const A right = near.y.share[0] * dot[0][1] + near.y.share[1] * dot[1][1];
  sums.weight[n] = near.y.share[0] * top + near.y.share[1] * bottom;
  sums.x[n] = near.x.slope[0] * left + near.x.slope[1] * right;
  sums.y[n] = near.y.slope[0] * top + near.y.slope[1] * bottom;
}

// The output's gradient for a thread's packs, and pointers to these packs of the image's first pixel.
template <typename T, int V, int L>
struct OwnGradients {
  const T* from[L];
  Arithmetic<T> grad[L][V];
};

template <typename T, int V, int L>
DCNV3_HOST_DEVICE OwnGradients<T, V, L> own_gradients(const Call& c, const Slot& s, int start) {
  const OwnPacks<L> own = own_packs<L>(c, s, start);
  const T* image = static_cast<const T*>(c.t.x) + s.n * c.g.h * c.row_packs * V;
  OwnGradients<T, V, L> result;
#pragma unroll
  for (int l = 0; l < L; ++l) {
    result.from[l] = image + (static_cast<int64_t>(s.group) * c.group_packs + own.pack[l]) * V;
    const T* grad = static_cast<const T*>(c.t.grad) + (s.pair * c.group_packs + own.pack[l]) * V;
    const Pack<T, V> pack = read_pack<T, V>(grad);
#pragma unroll
    for (int v = 0; v < V; ++v) result.grad[l][v] = own.valid[l] ? pack[v] : Arithmetic<T>(0);
  }
  return result;
}

template <typename T, int V, int L>
DCNV3_HOST_DEVICE void add_products(const Call& c, const OwnGradients<T, V, L>& own,
                                    const Neighbours<Arithmetic<T>>& near, Arithmetic<T> (&dot)[2][2]) {
  const FourPixels<T, V, L> four = read_four<T, V, L>(c, own.from, near);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const int row = corner / 2, column = corner % 2;
#pragma unroll
    for (int l = 0; l < L; ++l) {
#pragma unroll
      for (int v = 0; v < V; ++v) dot[row][column] += own.grad[l][v] * four.pack[row][column][l][v];
    }
  }
}

template <typename T, typename M, int kKernel, int N>
DCNV3_HOST_DEVICE void write_offset_gradients(const Call& c, const Slot& s, int first, const Arithmetic<T>* weight,
                                              const PointSums<Arithmetic<T>, N>& sums) {
  using A = Arithmetic<T>;
  const A scale = static_cast<A>(c.g.offset_scale);
  M* to = static_cast<M*>(c.t.grad_offset) + 2 * s.pair * c.g.points;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int full = first + n;
    if ((n & (s.lanes - 1)) != s.lane || is_removed<kKernel>(c.g, full)) continue;  // the lanes write in turn
    const A both[2] = {weight[n] * sums.x[n] * scale, weight[n] * sums.y[n] * scale};
    write_pack<M, 2>(to + 2 * point_at<kKernel>(c.g, full), both);
  }
}

// `mean` is the mean of `to_weight` weighted by the softmax; each logit's gradient uses the difference from it.
template <typename T, typename M, int kKernel, int N>
DCNV3_HOST_DEVICE void write_mask_gradients(const Call& c, const Slot& s, int first, const Arithmetic<T> (&weight)[N],
                                            const Arithmetic<T> (&to_weight)[N], Arithmetic<T> mean) {
  using A = Arithmetic<T>;
  M* to = static_cast<M*>(c.t.grad_mask) + s.pair * c.g.points;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int full = first + n;
    if ((n & (s.lanes - 1)) != s.lane || is_removed<kKernel>(c.g, full)) continue;
    const A one[1] = {c.g.softmax ? weight[n] * (to_weight[n] - mean) : to_weight[n]};
    write_pack<M, 1>(to + point_at<kKernel>(c.g, full), one);
  }
}

// If the points are in several batches: writes the logits' gradients after the last, from the kept sums of all.
template <typename T, typename M>
DCNV3_HOST_DEVICE void write_logit_gradients(const Call& c, const Slot& s, const Normaliser<Arithmetic<T>>& norm,
                                             const Arithmetic<T>* kept, Arithmetic<T> mean) {
  using A = Arithmetic<T>;
  const M* logits = weight_rows<M>(c, s).mask;
  M* to = static_cast<M*>(c.t.grad_mask) + s.pair * c.g.points;
  for (int k = s.lane; k < c.g.points; k += s.lanes) {
    const A weight = exponential(read_weight(logits + k) - norm.shift) * norm.scale;
    const A one[1] = {weight * (kept[k] - mean)};
    write_pack<M, 1>(to + k, one);
  }
}

// Whether the points of a softmax are in several batches, so that their sums must be kept until the last one.
template <int kKernel>
DCNV3_HOST_DEVICE bool keeps_sums(const Geometry& g, const Tensors& t) {
  return kBatch<kKernel> != kKernel * kKernel && g.softmax && t.grad_mask;
}

// The threads of a team run this in step; `Team` sums the threads' values and has their barrier. A thread that is not
// `active` only takes part in these two.
//
// `kept` is memory for P values that the team shares, for `keeps_sums`. If each thread of a team has more than L packs,
// kKernel must be 0.
template <typename T, int V, int L, int kKernel, typename Team>
DCNV3_HOST_DEVICE void grad_weights_slot(const Call& c, uint32_t index, bool active, Arithmetic<T>* kept,
                                         const Team& team) {
  using A = Arithmetic<T>;
  constexpr int N = kBatch<kKernel>, kRun = kKernel == 0 ? 1 : kKernel;
  constexpr bool kOneBatch = N == kKernel * kKernel;
  const Slot s = slot_at(c, index);
  const OwnGradients<T, V, L> own = own_gradients<T, V, L>(c, s, s.lane);
  Normaliser<A> norm{0, 1};
  if constexpr (!kOneBatch) norm = normaliser<T>(c, s);
  const bool keep = keeps_sums<kKernel>(c.g, c.t);
  const int positions = kernel_size<kKernel>(c.g) * kernel_size<kKernel>(c.g);
  A mean = 0;
#pragma unroll 1
  for (int first = 0; first < positions; first += N) {
    const Points<A, N> points = points_of<T, kKernel, N>(c, s, first, norm);
    A to_weight[N];
#pragma unroll
    for (int run = 0; run < N; run += kRun) {
      PointSums<A, kRun> sums;
#pragma unroll
      for (int n = 0; n < kRun; ++n) {
        const Neighbours<A> near = neighbours(points.px[run + n], points.py[run + n], c.g);
        A dot[2][2] = {};
        add_products(c, own, near, dot);
        if constexpr (kKernel == 0) {
          for (int start = s.lane + L * s.lanes; start < c.group_packs; start += L * s.lanes) {
            add_products(c, own_gradients<T, V, L>(c, s, start), near, dot);
          }
        }
        set_point(sums, n, near, dot);
      }
      team.add_up(sums);
#pragma unroll
      for (int n = 0; n < kRun; ++n) {
        to_weight[run + n] = sums.weight[n];
        mean += points.weight[run + n] * sums.weight[n];
      }
      if (active && c.t.grad_offset) {
        with_weight_type<T>(c, [&](auto* type) {
          using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
          write_offset_gradients<T, M, kKernel, kRun>(c, s, first + run, points.weight + run, sums);
        });
      }
    }
    if (!active || !c.t.grad_mask) continue;
    if (keep && s.lane == 0) {
      for (int n = 0; n < N; ++n) {
        if (!is_removed<kKernel>(c.g, first + n)) kept[point_at<kKernel>(c.g, first + n)] = to_weight[n];
      }
    } else if (!keep) {
      with_weight_type<T>(c, [&](auto* type) {
        using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
        write_mask_gradients<T, M, kKernel, N>(c, s, first, points.weight, to_weight, mean);
      });
    }
  }
  if (!keep) return;
  team.wait();
  if (!active) return;
  with_weight_type<T>(c, [&](auto* type) {
    using M = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
    write_logit_gradients<T, M>(c, s, norm, kept, mean);
  });
}

#ifdef __CUDACC__
struct WarpTeam {
  int lanes;

  template <typename A, int N>
  __device__ void add_up(PointSums<A, N>& sums) const {
    for (int step = lanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        sums.weight[n] += __shfl_xor_sync(0xffffffffu, sums.weight[n], step);
        sums.x[n] += __shfl_xor_sync(0xffffffffu, sums.x[n], step);
        sums.y[n] += __shfl_xor_sync(0xffffffffu, sums.y[n], step);
      }
    }
  }

  __device__ void wait() const { __syncwarp(); }
};

// A block may be shorter than kBlock. Threads beyond the last slot repeat it for the shuffles, and write nothing.
template <typename T, int V, int L, int kKernel>
__global__ void __launch_bounds__(kBlock) grad_weights_kernel(const __grid_constant__ Call c) {
  extern __shared__ __align__(16) unsigned char shared[];
  const uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const bool active = thread < c.slots;
  const int lanes = static_cast<int>(c.lanes.divisor);
  Arithmetic<T>* kept = reinterpret_cast<Arithmetic<T>*>(shared) + threadIdx.x / lanes * c.g.points;
  // With a shuffle the compiler does not mix the computation of the slot with its use, which takes 16 more registers.
  uint32_t slot = slot_of_thread(c, active ? thread : c.slots - 1);
  if constexpr (kKernel == 3) slot = __shfl_sync(0xffffffffu, slot, threadIdx.x % 32);
  grad_weights_slot<T, V, L, kKernel>(c, slot, active, kept, WarpTeam{lanes});
}
#endif

}  // namespace dcnv3::cuda
