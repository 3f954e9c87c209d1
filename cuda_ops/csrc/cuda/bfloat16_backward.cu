#include "launch.cuh"

namespace dcnv3::cuda {

template const char* backward<BFloat16>(const Geometry&, const Tensors&, void*, void*);
template int64_t workspace_bytes<BFloat16>(const Geometry&, const Tensors&);

}  // namespace dcnv3::cuda
