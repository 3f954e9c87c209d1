// Converts the tensors and numbers of a call to its geometry, for every backend, through LibTorch's stable ABI.
//
// The public Python function has already checked every argument. The checks here keep a direct call of the operator
// from accessing memory outside its tensors.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "geometry.h"

namespace dcnv3 {

using torch::stable::Tensor;

// The distance in elements between neighboring output pixels, or -1 if it is not the same for all. The axes of offset
// and mask are (n, ho, wo, values); an axis of one element may have any stride.
inline int64_t pixel_stride(const Tensor& t) {
  int64_t stride = -1, pixels = 1;
  for (int axis = 2; axis >= 0; --axis) {
    if (t.size(axis) == 1) continue;
    if (stride < 0) stride = t.stride(axis);
    if (t.stride(axis) != stride * pixels) return -1;
    pixels *= t.size(axis);
  }
  return stride < 0 ? t.size(3) : stride;
}

// The tensor itself if its pixels can be read in place, as in a slice of a merged projection; else a copy.
inline Tensor readable(const Tensor& t) {
  const bool in_place = t.size(3) == 1 || t.stride(3) == 1;
  return in_place && pixel_stride(t) >= t.size(3) ? t : torch::stable::contiguous(t);
}

// Pixels along one axis of the output; 0 if the kernel is larger than the padded image.
inline int64_t output_size(int64_t size, const Geometry& g) {
  const int64_t last = size + 2 * int64_t{g.pad} - int64_t{g.dilation} * (g.kernel - 1) - 1;
  return last < 0 ? 0 : last / g.stride + 1;
}

// Checks the numbers alone. Their limits keep what `Geometry` and its users store in an int within its range: kernel^2,
// twice the padding, and the kernel's extent.
inline void require_window(int64_t groups, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
                           bool remove_center) {
  constexpr int64_t kMost = int64_t{1} << 30;
  STD_TORCH_CHECK(groups > 0 && kernel > 0 && stride > 0 && pad >= 0 && dilation > 0,
                  "dcnv3: wanted groups, kernel size, stride and dilation of 1 or more and padding of 0 or more, got ",
                  groups, ", ", kernel, ", ", stride, ", ", dilation, " and ", pad);
  STD_TORCH_CHECK(kernel < (1 << 15) && stride < kMost && pad < kMost && dilation < kMost &&
                      dilation * (kernel - 1) < kMost,
                  "dcnv3: kernel size ", kernel, ", stride ", stride, ", padding ", pad, " or dilation ", dilation,
                  " is beyond what a kernel can count");
  STD_TORCH_CHECK(!remove_center || (kernel >= 3 && kernel % 2 == 1),
                  "dcnv3: remove_center wants an odd kernel size of 3 or more, got ", kernel);
}

// `offset` and `mask` must be results of `readable`. Only the batch may be empty: a kernel divides by the sizes and
// reads the first point of each (pixel, group) pair.
inline Geometry geometry_of(const Tensor& x, const Tensor& offset, const Tensor& mask, int64_t groups, int64_t kernel,
                            int64_t stride, int64_t pad, int64_t dilation, double offset_scale, bool remove_center,
                            bool softmax) {
  STD_TORCH_CHECK(x.dim() == 4 && offset.dim() == 4 && mask.dim() == 4, "dcnv3: x, offset and mask have 4 axes");
  require_window(groups, kernel, stride, pad, dilation, remove_center);
  STD_TORCH_CHECK(x.size(3) > 0 && x.size(3) % groups == 0, "dcnv3: wanted channels in ", groups,
                  " equal groups, got ", x.size(3));
  Geometry g{};
  g.n = x.size(0), g.h = x.size(1), g.w = x.size(2);
  g.groups = groups, g.group_channels = x.size(3) / groups;
  g.kernel = static_cast<int>(kernel), g.stride = static_cast<int>(stride), g.pad = static_cast<int>(pad);
  g.dilation = static_cast<int>(dilation), g.offset_scale = offset_scale;
  g.remove_center = remove_center, g.softmax = softmax;
  g.points = g.kernel * g.kernel - (remove_center ? 1 : 0);
  g.ho = output_size(g.h, g), g.wo = output_size(g.w, g);
  STD_TORCH_CHECK(g.h > 0 && g.w > 0 && g.ho > 0 && g.wo > 0, "dcnv3: wanted an image of at least one pixel that, ",
                  "padded, holds the window, got ", g.h, "x", g.w, " for an output of ", g.ho, "x", g.wo);
  const int64_t points = groups * g.points;
  const auto fits = [&](const Tensor& t, int64_t values) {
    return t.size(0) == g.n && t.size(1) == g.ho && t.size(2) == g.wo && t.size(3) == values;
  };
  STD_TORCH_CHECK(fits(offset, points * 2) && fits(mask, points), "dcnv3: offset or mask does not fit x's shape");
  STD_TORCH_CHECK(offset.scalar_type() == mask.scalar_type(), "dcnv3: offset and mask have different dtypes");
  g.offset_stride = pixel_stride(offset), g.mask_stride = pixel_stride(mask);
  return g;
}

}  // namespace dcnv3
