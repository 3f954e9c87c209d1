// The forward kernel: each thread computes L packs of V channels of one output pixel and group.
#pragma once
#include "sample.cuh"

namespace dcnv3::cuda {

template <typename T, int V, int L, int kKernel>
DCNV3_HOST_DEVICE void forward_slot(const Call& c, uint32_t index) {
  using A = Arithmetic<T>;
  constexpr int N = kBatch<kKernel>;
  const Slot s = slot_at(c, index);
  const OwnPacks<L> own = own_packs<L>(c, s, s.lane);
  const T* image = static_cast<const T*>(c.t.x) + s.n * c.g.h * c.row_packs * V;
  const T* from[L];
  A sum[L][V];
#pragma unroll
  for (int l = 0; l < L; ++l) {
    from[l] = image + (static_cast<int64_t>(s.group) * c.group_packs + own.pack[l]) * V;
#pragma unroll
    for (int v = 0; v < V; ++v) sum[l][v] = 0;
  }
  Normaliser<A> norm{0, 1};
  if constexpr (N != kKernel * kKernel) norm = normaliser<T>(c, s);
  const int positions = kernel_size<kKernel>(c.g) * kernel_size<kKernel>(c.g);
#pragma unroll 1
  for (int first = 0; first < positions; first += N) {
    const Points<A, N> points = points_of<T, kKernel, N>(c, s, first, norm);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const Neighbours<A> near = neighbours(points.px[n], points.py[n], c.g);
      const FourPixels<T, V, L> four = read_four<T, V, L>(c, from, near);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const A row_weight = points.weight[n] * near.y.share[row];
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const A weight = row_weight * near.x.share[column];
#pragma unroll
          for (int l = 0; l < L; ++l) {
#pragma unroll
            for (int v = 0; v < V; ++v) sum[l][v] += weight * four.pack[row][column][l][v];
          }
        }
      }
    }
  }
  T* out = static_cast<T*>(c.t.output) + s.pair * c.group_packs * V;
#pragma unroll
  for (int l = 0; l < L; ++l) {
    if (own.valid[l]) write_pack<T, V>(out + own.pack[l] * V, sum[l]);
  }
}

#ifdef __CUDACC__
template <typename T, int V, int L, int kKernel>
__global__ void __launch_bounds__(kBlock) forward_kernel(const __grid_constant__ Call c) {
  const uint32_t thread = blockIdx.x * kBlock + threadIdx.x;
  if (thread < c.slots) forward_slot<T, V, L, kKernel>(c, slot_of_thread(c, thread));
}
#endif

}  // namespace dcnv3::cuda
