// Registers the CPU kernels of the operators that fused.py defines.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <memory>
#include <tuple>

#include "cpu_bias_gelu.h"
#include "cpu_side.h"

namespace dcnv3::cpu {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Calls `run` with a null pointer, whose type is that of the tensors.
template <typename Run>
void with_type(const Tensor& t, const Run& run) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return run((float*)nullptr);
    case ScalarType::Double:
      return run((double*)nullptr);
    case ScalarType::Half:
      return run((c10::Half*)nullptr);
    case ScalarType::BFloat16:
      return run((c10::BFloat16*)nullptr);
    default:
      STD_TORCH_CHECK(false, "wanted float16, bfloat16, float32 or float64");
  }
}

// The tensors of a call, checked and contiguous. The Python function has checked them before; here the checks keep a
// direct call of the operator from accessing memory outside its tensors.
struct Inputs {
  Tensor x, weight, bias, scale, shift;
  Maps m;

  Inputs(const Tensor& x_, const Tensor& weight_, const Tensor& bias_, const Tensor& scale_, const Tensor& shift_,
         double eps)
      : x(torch::stable::contiguous(x_)),
        weight(torch::stable::contiguous(weight_)),
        bias(torch::stable::contiguous(bias_)),
        scale(torch::stable::contiguous(scale_)),
        shift(torch::stable::contiguous(shift_)) {
    STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4, "side_branch: x and weight have 4 axes");
    m = {x.size(0), x.size(1), x.size(2), x.size(3), static_cast<int>(weight.size(2)), eps};
    STD_TORCH_CHECK(weight.size(0) == m.channels && weight.size(1) == 1 && weight.size(3) == m.kernel &&
                        m.kernel % 2 == 1 && weight.size(2) < (1 << 15),
                    "side_branch: wanted a weight of (channels, 1, K, K) with an odd K");
    for (const Tensor* vector : {&bias, &scale, &shift})
      STD_TORCH_CHECK(vector->dim() == 1 && vector->size(0) == m.channels,
                      "side_branch: bias, norm_weight and norm_bias have one number per channel");
    for (const Tensor* other : {&weight, &bias, &scale, &shift})
      STD_TORCH_CHECK(other->scalar_type() == x.scalar_type(), "side_branch: all tensors have one dtype");
  }

  template <typename X>
  SideWeights<Arithmetic<X>> weights() const {
    return {m, data<X>(weight), data<X>(bias), data<X>(scale), data<X>(shift)};
  }
};

Tensor side_branch(const Tensor x, const Tensor weight, const Tensor bias, const Tensor scale, const Tensor shift,
                   double eps) {
  const Inputs in(x, weight, bias, scale, shift, eps);
  Tensor out = torch::stable::new_empty(in.x, in.x.sizes());
  if (out.numel() == 0) return out;
  with_type(in.x, [&](auto* type) {
    using X = std::remove_pointer_t<decltype(type)>;
    side_forward<X>(in.m, data<X>(in.x), in.weights<X>(), data<X>(out));
  });
  return out;
}

template <typename X>
void store(const double* sums, const Tensor& to) {
  std::copy(sums, sums + to.numel(), data<X>(to));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> side_branch_backward(const Tensor grad, const Tensor x,
                                                                        const Tensor weight, const Tensor bias,
                                                                        const Tensor scale, const Tensor shift,
                                                                        double eps) {
  const Inputs in(x, weight, bias, scale, shift, eps);
  const Tensor grads = torch::stable::contiguous(grad);
  STD_TORCH_CHECK(grads.numel() == in.x.numel() && grads.scalar_type() == in.x.scalar_type(),
                  "side_branch: the gradient has another shape or dtype than the output");
  const auto like = [](const Tensor& t) { return torch::stable::new_empty(t, t.sizes()); };
  const Tensor to_x = like(in.x), to_weight = like(in.weight), to_bias = like(in.bias), to_scale = like(in.scale);
  const Tensor to_shift = like(in.shift);
  with_type(in.x, [&](auto* type) {
    using X = std::remove_pointer_t<decltype(type)>;
    using A = Arithmetic<X>;
    const SideWeights<A> w = in.weights<X>();
    const std::unique_ptr<A[]> grad_conv(new A[in.x.numel()]);
    const std::vector<double> sums = side_backward<X>(in.m, data<X>(grads), data<X>(in.x), w, grad_conv.get());
    const int64_t channels = in.m.channels, taps = in.m.taps(), length = in.m.row_length();
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t t = 0; t < taps; ++t) data<X>(to_weight)[c * taps + t] = static_cast<X>(sums[t * length + c]);
    store<X>(&sums[taps * length], to_bias);
    store<X>(&sums[(taps + 1) * length], to_scale);
    store<X>(&sums[(taps + 2) * length], to_shift);
    side_backward_input<X>(in.m, grad_conv.get(), w.reversed(in.m), data<X>(to_x));
  });
  return {to_x, to_weight, to_bias, to_scale, to_shift};
}

// A map of any number of axes as rows of its last one, with a number per channel.
struct BiasedRows {
  Tensor x, bias;
  int64_t channels, rows;

  BiasedRows(const Tensor& x_, const Tensor& bias_)
      : x(torch::stable::contiguous(x_)), bias(torch::stable::contiguous(bias_)) {
    STD_TORCH_CHECK(x.dim() > 0 && bias.dim() == 1 && bias.size(0) == x.size(x.dim() - 1) &&
                        bias.scalar_type() == x.scalar_type(),
                    "bias_gelu: wanted a bias of x's dtype with one number per channel");
    channels = bias.size(0), rows = channels > 0 ? x.numel() / channels : 0;
  }
  template <typename X>
  Numbers<Arithmetic<X>> biases() const {
    return converted<Arithmetic<X>>(data<X>(bias), channels);
  }
};

Tensor bias_gelu(const Tensor x, const Tensor bias) {
  const BiasedRows in(x, bias);
  Tensor out = torch::stable::new_empty(in.x, in.x.sizes());
  with_type(in.x, [&](auto* type) {
    using X = std::remove_pointer_t<decltype(type)>;
    bias_gelu_forward<X>(in.rows, in.channels, data<X>(in.x), in.biases<X>(), data<X>(out));
  });
  return out;
}

std::tuple<Tensor, Tensor> bias_gelu_backward_op(const Tensor grad, const Tensor x, const Tensor bias) {
  const BiasedRows in(x, bias);
  const Tensor grads = torch::stable::contiguous(grad);
  STD_TORCH_CHECK(grads.numel() == in.x.numel() && grads.scalar_type() == in.x.scalar_type(),
                  "bias_gelu: the gradient has another shape or dtype than the output");
  Tensor to_x = torch::stable::new_empty(in.x, in.x.sizes()), to_bias = torch::stable::new_empty(bias, bias.sizes());
  with_type(in.x, [&](auto* type) {
    using X = std::remove_pointer_t<decltype(type)>;
    const std::vector<double> sums =
        bias_gelu_backward<X>(in.rows, in.channels, data<X>(grads), data<X>(in.x), in.biases<X>(), data<X>(to_x));
    store<X>(sums.data(), to_bias);
  });
  return {to_x, to_bias};
}

}  // namespace
}  // namespace dcnv3::cpu

STABLE_TORCH_LIBRARY_IMPL(archsearch, CPU, library) {
  library.impl("side_branch", TORCH_BOX(&dcnv3::cpu::side_branch));
  library.impl("side_branch_backward", TORCH_BOX(&dcnv3::cpu::side_branch_backward));
  library.impl("bias_gelu", TORCH_BOX(&dcnv3::cpu::bias_gelu));
  library.impl("bias_gelu_backward", TORCH_BOX(&dcnv3::cpu::bias_gelu_backward_op));
}
