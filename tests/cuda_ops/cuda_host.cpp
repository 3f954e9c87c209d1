// Runs the CUDA kernels' bodies on the host: every thread of every block in turn, phase by phase, with the choices and
// plans of a launch. This does not cover what only a GPU has: its intrinsics (each has a version for the host),
// shuffles, barriers and the memory system.
#include <vector>

#include "cuda/plan.h"

namespace dcnv3::cuda {

// A team's threads run one after the other, twice: first to record each thread's part of every sum, then with the sums.
struct HostTeam {
  std::vector<std::vector<double>>* parts;  // the values of every sum, in order
  bool recording;
  size_t* next;

  template <typename A, int N>
  void add_up(PointSums<A, N>& sums) const {
    if (recording && parts->size() == *next) parts->emplace_back(3 * N, 0.0);
    std::vector<double>& total = (*parts)[(*next)++];
    A* const values[3] = {sums.weight, sums.x, sums.y};
    for (int i = 0; i < 3 * N; ++i) {
      A& value = values[i / N][i % N];
      if (recording) total[i] += value;
      value = recording ? A(0) : static_cast<A>(total[i]);
    }
  }

  void wait() const {}
};

template <typename T>
const char* host_forward(const Geometry& g, const Tensors& t, int64_t max_slots) {
  return with_forward_kernel<T>(g, t, [&](auto choice) {
    using C = decltype(choice);
    const auto run = [](const Call& c) -> const char* {
      for (uint32_t index = 0; index < c.slots; ++index) forward_slot<T, C::V, C::L, C::kKernel>(c, index);
      return nullptr;
    };
    return each_part(call_of<T>(g, t, C::V, forward_lanes<C>(g)), run, max_slots);
  });
}

template <typename T>
const char* host_grad_weights(const Geometry& g, const Tensors& t, int64_t max_slots) {
  return with_grad_weights_kernel<T>(g, t, [&](auto choice) {
    using C = decltype(choice);
    const auto run = [&](const Call& c) -> const char* {
      std::vector<Arithmetic<T>> kept(g.points);
      for (uint32_t team = 0; team < c.slots; team += c.lanes.divisor) {
        std::vector<std::vector<double>> parts;
        for (const bool recording : {true, false}) {
          for (uint32_t lane = 0; lane < c.lanes.divisor; ++lane) {
            size_t next = 0;
            grad_weights_slot<T, C::V, C::L, C::kKernel>(c, team + lane, !recording, kept.data(),
                                                         HostTeam{&parts, recording, &next});
          }
        }
      }
      return nullptr;
    };
    const TeamPlan plan = team_plan<T, C>(g, t);
    if (plan.shared_bytes > kSharedBytes || plan.block % plan.lanes != 0) return "the team's plan does not fit";
    return each_part(call_of<T>(g, t, C::V, plan.lanes), run, max_slots);
  });
}

template <typename T>
void host_boxes(const Call& c, std::vector<Box>& boxes) {
  boxes.assign(box_count(c), {{INT32_MAX, INT32_MIN}, {INT32_MAX, INT32_MIN}});
  for (int64_t n = 0; n < c.g.n; ++n) {
    for (int chunk = 0; chunk < chunks_of(c); ++chunk) {
      for (int group = 0; group < c.g.groups; ++group) {
        Box& box = boxes[box_at(c, n, chunk, group)];
        for (int pixel = 0; pixel < kChunk; ++pixel) {
          const Box own = box_of_pixel<T>(c, n, chunk, group, pixel);
          box = {joined(box.x, own.x), joined(box.y, own.y)};
        }
      }
    }
  }
}

// As add_step, but checks why atomics are not needed: an element has one owner, and the lanes have different elements.
template <typename S>
const char* host_add_step(const PlaneCall& p, const Tile& tile, const Page<S>& page, typename S::A* memory,
                          std::vector<int>& owner_of) {
  for (int owner = 0; owner < owners_of<S>(p); ++owner) {
    const Span columns = own_columns(tile, owner, owners_of<S>(p));
    const Elements own = elements_of<S>(tile, columns);
    for (int pixel = 0; pixel < kChunk; ++pixel) {
      if (!pixel_touches(columns, pixel, page)) continue;
      for (int r = 0; r < kRound; ++r) {
        std::vector<int> elements;
        for (int lane = 0; lane < S::kOwnerLanes; ++lane) {
          const LaneShare<S> share = lane_share(pixel, lane, page);
          add_entry<S>(own, lane, share.entry[r], share.grad, memory);
          if (!owns<S>(own, share.entry[r])) continue;
          const int element = share.entry[r].at + lane % S::kRuns * S::kRun;
          for (const int other : elements) {
            if (other == element) return "two lanes add to one element";
          }
          elements.push_back(element);
          if (owner_of[element] >= 0 && owner_of[element] != owner) return "two owners add to one element";
          owner_of[element] = owner;
        }
      }
    }
  }
  return nullptr;
}

template <typename S, int kKernel>
const char* host_tile(const PlaneCall& p, uint32_t block, std::vector<char>& shared) {
  const Tile tile = tile_at<S>(p, block);
  const int64_t pixels = static_cast<int64_t>(p.tile_w) * p.tile_h;
  const PlaneMemory<S> memory(shared.data(), pixels);
  const int threads = plane_threads(p);
  std::vector<int> owner_of(pixels * S::kChannels, -1);
  std::vector<Step> steps;
  for (int chunk = 0; chunk < chunks_of(p.c); ++chunk) {
    if (p.boxes && !chunk_reaches(p, tile, chunk)) continue;
    for (int first = 0; first < p.c.g.kernel * p.c.g.kernel; first += kRound) steps.push_back({chunk, first});
  }
  for (int thread = 0; thread < threads; ++thread) clear_tile<S>(tile, thread, threads, memory.tile);
  for (size_t i = 0; i <= steps.size(); ++i) {  // a page is written before the previous one is added
    for (int pixel = 0; pixel < kChunk && i < steps.size(); ++pixel) {
      write_pixel<S, kKernel>(p, tile, steps[i], pixel, memory.page(i % 2));
    }
    if (i == 0) continue;
    if (const char* error = host_add_step(p, tile, memory.page((i - 1) % 2), memory.tile, owner_of)) return error;
  }
  for (int thread = 0; thread < threads; ++thread) {
    write_tile<S>(p, tile, thread / 32, threads / 32, thread % 32, memory.tile);
  }
  return nullptr;
}

template <typename T>
const char* host_grad_x(const Geometry& g, const Tensors& t, const SharedMemory& device) {
  return with_grad_x_kernel<T>(g, [&](auto slice, auto kernel) -> const char* {
    using S = decltype(slice);
    PlaneCall p = plane_call<S>(g, t, device);
    if (is_tiled(p) && !is_tiled(plane_call<S>(g, t, kLeastShared))) return "no workspace for these tiles";
    std::vector<Box> boxes;
    if (is_tiled(p)) {
      host_boxes<T>(p.c, boxes);
      p.boxes = boxes.data();
    }
    const int64_t bytes = plane_shared_bytes<S>(p);
    if (bytes > most_plane_shared_bytes<S>(device)) return "a tile exceeds the largest size of a tile";
    if (blocks_at_once(device) * (bytes + device.reserved) > device.multiprocessor) return "the tiles do not fit";
    std::vector<char> shared(bytes, 0x7f);
    for (uint32_t block = 0; block < plane_blocks(p); ++block) {
      if (const char* error = host_tile<S, kernel()>(p, block, shared)) return error;
    }
    return nullptr;
  });
}

template <typename T>
const char* host_run(const Geometry& g, const Tensors& t, int64_t max_slots, const SharedMemory& device) {
  const char* error = refusal(g);
  if (!error && t.output) error = host_forward<T>(g, t, max_slots);
  if (!error && (t.grad_offset || t.grad_mask)) error = host_grad_weights<T>(g, t, max_slots);
  if (!error && t.grad_x) error = host_grad_x<T>(g, t, device);
  return error;
}

}  // namespace dcnv3::cuda

// `type`: 0 float, 1 Half, 2 BFloat16, 3 double. Computes the results that have a pointer; returns null or an error.
extern "C" const char* dcnv3_run(int type, const dcnv3::Geometry* g, const dcnv3::cuda::Tensors* t, int64_t max_slots,
                                 int64_t shared_bytes) {
  using namespace dcnv3::cuda;
  const SharedMemory device{shared_bytes, 1024};
  switch (type) {
    case 0: return host_run<float>(*g, *t, max_slots, device);
    case 1: return host_run<Half>(*g, *t, max_slots, device);
    case 2: return host_run<BFloat16>(*g, *t, max_slots, device);
    default: return host_run<double>(*g, *t, max_slots, device);
  }
}

// Writes base, two shares and two slopes, `ours` by the kernels' axis_at and `wanted` by geometry.h.
extern "C" void dcnv3_axis(float position, int64_t size, float* ours, float* wanted) {
  using namespace dcnv3::cuda;
  const Axis<float> axis = axis_at(position, size);
  const dcnv3::AxisNeighbours<float> near = dcnv3::axis_neighbours(position, static_cast<int>(size));
  ours[0] = static_cast<float>(axis.cell - kFirstCell<float>), wanted[0] = static_cast<float>(near.base);
  for (int i = 0; i < 2; ++i) {
    ours[1 + i] = axis.share[i], wanted[1 + i] = near.share[i];
    ours[3 + i] = axis.slope[i], wanted[3 + i] = near.slope[i];
  }
}

extern "C" float dcnv3_round_trip(int type, float value) {
  using namespace dcnv3::cuda;
  return type == 1 ? to_arithmetic(from_arithmetic<Half>(value)) : to_arithmetic(from_arithmetic<BFloat16>(value));
}

extern "C" uint32_t dcnv3_quotient(uint32_t n, int64_t divisor) { return dcnv3::cuda::Divisor(divisor).quotient(n); }
