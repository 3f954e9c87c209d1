// Registers the CUDA kernels for the operators that ops.py defines, through LibTorch's stable ABI: one library works
// with every torch from 2.10 on, and a torch without CUDA can load it too.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <tuple>

#include "../arguments.h"
#include "launch.h"

// Weak, because only a torch with CUDA defines it.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace dcnv3::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::accelerator::DeviceGuard;

void* current_stream(const Tensor& t) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "dcnv3: this torch was built without CUDA");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return stream;
}

// Calls `run` with a null pointer to x's type.
template <typename Run>
auto with_type(const Tensor& x, const Tensor& offset, const Run& run) {
  const ScalarType type = x.scalar_type(), other = offset.scalar_type();
  const bool half = type == ScalarType::Half || type == ScalarType::BFloat16;
  STD_TORCH_CHECK(other == type || (half && other == ScalarType::Float), "dcnv3: this pair of dtypes has no kernel");
  if (type == ScalarType::Half) return run(static_cast<Half*>(nullptr));
  if (type == ScalarType::BFloat16) return run(static_cast<BFloat16*>(nullptr));
  if (type == ScalarType::Double) return run(static_cast<double*>(nullptr));
  STD_TORCH_CHECK(type == ScalarType::Float, "dcnv3: no kernel for this dtype");
  return run(static_cast<float*>(nullptr));
}

// Offsets are read in pairs, which must be aligned to the size of a pair.
Tensor readable_pairs(const Tensor& offset) {
  const Tensor t = readable(offset);
  const bool even = pixel_stride(t) % 2 == 0;
  const auto address = reinterpret_cast<uintptr_t>(t.const_data_ptr());
  return even && address % (2 * t.element_size()) == 0 ? t : torch::stable::clone(t);
}

void require_one_device(const Tensor& x, const Tensor& other) {
  STD_TORCH_CHECK(other.is_cuda() && other.get_device_index() == x.get_device_index(),
                  "dcnv3: the tensors are not on one CUDA device");
}

void require_launched(const char* error) {
  STD_TORCH_CHECK(error == nullptr, "dcnv3 on CUDA: ", error ? error : "");
}

void* writable(const Tensor& t, bool needed) { return needed ? t.mutable_data_ptr() : nullptr; }

Tensor forward_op(const Tensor x, const Tensor offset, const Tensor mask, int64_t groups, int64_t kernel,
                  int64_t stride, int64_t pad, int64_t dilation, double offset_scale, bool remove_center,
                  bool softmax) {
  require_one_device(x, offset), require_one_device(x, mask);
  const DeviceGuard guard(x.get_device_index());
  const Tensor dense = torch::stable::contiguous(x), offsets = readable_pairs(offset), masks = readable(mask);
  const Geometry g = geometry_of(dense, offsets, masks, groups, kernel, stride, pad, dilation, offset_scale,
                                 remove_center, softmax);
  Tensor out = torch::stable::new_empty(dense, {g.n, g.ho, g.wo, dense.size(3)});
  if (out.numel() == 0) return out;
  Tensors t{};
  t.x = dense.const_data_ptr(), t.offset = offsets.const_data_ptr(), t.mask = masks.const_data_ptr();
  t.output = out.mutable_data_ptr();
  t.float_weights = offsets.scalar_type() == ScalarType::Float;
  require_launched(with_type(dense, offsets, [&](auto* type) {
    return forward<std::remove_pointer_t<decltype(type)>>(g, t, current_stream(dense));
  }));
  return out;
}

Tensor empty_for(const Tensor& t, bool needed) {
  if (!needed) return torch::stable::new_empty(t, {0});
  return torch::stable::new_empty(t, t.sizes());
}

template <typename T>
const char* backward_on(const Tensor& x, const Geometry& g, const Tensors& t) {
  const int64_t bytes = workspace_bytes<T>(g, t);
  if (bytes == 0) return backward<T>(g, t, nullptr, current_stream(x));
  const Tensor workspace = torch::stable::new_empty(x, {bytes}, ScalarType::Byte);
  return backward<T>(g, t, workspace.mutable_data_ptr(), current_stream(x));
}

std::tuple<Tensor, Tensor, Tensor> backward_op(const Tensor grad, const Tensor x, const Tensor offset,
                                               const Tensor mask, int64_t groups, int64_t kernel, int64_t stride,
                                               int64_t pad, int64_t dilation, double offset_scale, bool remove_center,
                                               bool softmax, bool needs_x, bool needs_offset, bool needs_mask) {
  require_one_device(x, offset), require_one_device(x, mask), require_one_device(x, grad);
  const DeviceGuard guard(x.get_device_index());
  const Tensor dense = torch::stable::contiguous(x), offsets = readable_pairs(offset), masks = readable(mask);
  const Tensor grads = torch::stable::contiguous(grad);
  const Geometry g = geometry_of(dense, offsets, masks, groups, kernel, stride, pad, dilation, offset_scale,
                                 remove_center, softmax);
  STD_TORCH_CHECK(grads.numel() == g.n * g.ho * g.wo * x.size(3) && grads.scalar_type() == x.scalar_type(),
                  "dcnv3: the gradient has another shape or dtype than the output");
  const Tensor to_x = empty_for(x, needs_x), to_offset = empty_for(offset, needs_offset);
  const Tensor to_mask = empty_for(mask, needs_mask);
  if (g.n == 0) return {to_x, to_offset, to_mask};
  Tensors t{};
  t.x = dense.const_data_ptr(), t.offset = offsets.const_data_ptr(), t.mask = masks.const_data_ptr();
  t.grad = grads.const_data_ptr();
  t.grad_x = writable(to_x, needs_x), t.grad_offset = writable(to_offset, needs_offset);
  t.grad_mask = writable(to_mask, needs_mask);
  t.float_weights = offsets.scalar_type() == ScalarType::Float;
  require_launched(with_type(dense, offsets, [&](auto* type) {
    return backward_on<std::remove_pointer_t<decltype(type)>>(dense, g, t);
  }));
  return {to_x, to_offset, to_mask};
}

}  // namespace
}  // namespace dcnv3::cuda

STABLE_TORCH_LIBRARY_IMPL(archsearch, CUDA, library) {
  library.impl("dcnv3", TORCH_BOX(&dcnv3::cuda::forward_op));
  library.impl("dcnv3_backward", TORCH_BOX(&dcnv3::cuda::backward_op));
}
