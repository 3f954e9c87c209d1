// Registers the CPU kernels for the operators that ops.py defines.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <tuple>

#include "arguments.h"
#include "cpu.h"

namespace dcnv3::cpu {

void parallel_for(int64_t count, const std::function<void(int64_t)>& task) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) task(index);
  });
}

int64_t num_threads() { return torch::stable::get_num_threads(); }

namespace {

using torch::headeronly::ScalarType;

template <typename T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Calls `run` with two null pointers, whose types are those of x and of offset and mask.
template <typename Run>
void with_types(const Tensor& x, const Tensor& offset, const Run& run) {
  using c10::BFloat16;
  using c10::Half;
  const ScalarType type = x.scalar_type(), other = offset.scalar_type();
  if (type == ScalarType::Float && other == type) return run((float*)nullptr, (float*)nullptr);
  if (type == ScalarType::Double && other == type) return run((double*)nullptr, (double*)nullptr);
  if (type == ScalarType::Half && other == type) return run((Half*)nullptr, (Half*)nullptr);
  if (type == ScalarType::Half && other == ScalarType::Float) return run((Half*)nullptr, (float*)nullptr);
  if (type == ScalarType::BFloat16 && other == type) return run((BFloat16*)nullptr, (BFloat16*)nullptr);
  if (type == ScalarType::BFloat16 && other == ScalarType::Float) return run((BFloat16*)nullptr, (float*)nullptr);
  STD_TORCH_CHECK(false, "dcnv3: this pair of dtypes has no kernel");
}

Tensor forward_op(const Tensor x, const Tensor offset, const Tensor mask, int64_t groups, int64_t kernel,
                  int64_t stride, int64_t pad, int64_t dilation, double offset_scale, bool remove_center,
                  bool softmax) {
  const Tensor dense = torch::stable::contiguous(x), offsets = readable(offset), masks = readable(mask);
  const Geometry g = geometry_of(dense, offsets, masks, groups, kernel, stride, pad, dilation, offset_scale,
                                 remove_center, softmax);
  Tensor out = torch::stable::new_empty(dense, {g.n, g.ho, g.wo, dense.size(3)});
  if (out.numel() == 0) return out;
  with_types(dense, offsets, [&](auto* x_type, auto* mask_type) {
    using X = std::remove_pointer_t<decltype(x_type)>;
    using M = std::remove_pointer_t<decltype(mask_type)>;
    forward<X, M>(g, data<X>(dense), data<M>(offsets), data<M>(masks), data<X>(out));
  });
  return out;
}

Tensor empty_for(const Tensor& t, bool needed) {
  if (!needed) return torch::stable::new_empty(t, {0});
  return torch::stable::new_empty(t, t.sizes());
}

std::tuple<Tensor, Tensor, Tensor> backward_op(const Tensor grad, const Tensor x, const Tensor offset,
                                               const Tensor mask, int64_t groups, int64_t kernel, int64_t stride,
                                               int64_t pad, int64_t dilation, double offset_scale, bool remove_center,
                                               bool softmax, bool needs_x, bool needs_offset, bool needs_mask) {
  const Tensor dense = torch::stable::contiguous(x), offsets = readable(offset), masks = readable(mask);
  const Tensor grads = torch::stable::contiguous(grad);
  const Geometry g = geometry_of(dense, offsets, masks, groups, kernel, stride, pad, dilation, offset_scale,
                                 remove_center, softmax);
  STD_TORCH_CHECK(grads.numel() == g.n * g.ho * g.wo * x.size(3) && grads.scalar_type() == x.scalar_type(),
                  "dcnv3: the gradient has another shape or dtype than the output");
  const Tensor to_x = empty_for(x, needs_x), to_offset = empty_for(offset, needs_offset);
  const Tensor to_mask = empty_for(mask, needs_mask);
  if (g.n == 0) return {to_x, to_offset, to_mask};
  with_types(dense, offsets, [&](auto* x_type, auto* mask_type) {
    using X = std::remove_pointer_t<decltype(x_type)>;
    using M = std::remove_pointer_t<decltype(mask_type)>;
    const Gradients<X, M> to{needs_x ? data<X>(to_x) : nullptr, needs_offset ? data<M>(to_offset) : nullptr,
                             needs_mask ? data<M>(to_mask) : nullptr};
    backward<X, M>(g, data<X>(grads), data<X>(dense), data<M>(offsets), data<M>(masks), to);
  });
  return {to_x, to_offset, to_mask};
}

}  // namespace
}  // namespace dcnv3::cpu

STABLE_TORCH_LIBRARY_IMPL(archsearch, CPU, library) {
  library.impl("dcnv3", TORCH_BOX(&dcnv3::cpu::forward_op));
  library.impl("dcnv3_backward", TORCH_BOX(&dcnv3::cpu::backward_op));
}
