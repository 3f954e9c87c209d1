// Runs calls from a file through the project's launch code, without Python and torch: PROGRAM CALLS RESULTS.
//
// For the sanitizers. Every tensor and the workspace is an allocation of exactly its size, so that AddressSanitizer
// sees an access before or after it. `sanitized.py` writes the file and compares the results.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "emulator.h"
#include "launch.h"

using namespace dcnv3;
using namespace dcnv3::cuda;

extern "C" void emulator_set(const emulator::Settings* settings);

namespace {

struct Request {
  int64_t type;  // 0 float, 1 Half, 2 BFloat16, 3 double
  int64_t float_weights;
  int64_t bytes[4], shift[4];  // of x, offset, mask and the output's gradient; `shift` bytes precede each
  emulator::Settings settings;
  Geometry geometry;
};

using Buffer = std::unique_ptr<char, void (*)(void*)>;

Buffer allocate(int64_t bytes, int fill) {
  Buffer buffer(static_cast<char*>(malloc(bytes)), free);
  memset(buffer.get(), fill, bytes);
  return buffer;
}

template <typename T>
const char* compute(const Geometry& g, const Tensors& t) {
  if (const char* error = forward<T>(g, t, nullptr)) return error;
  const Buffer workspace = allocate(workspace_bytes<T>(g, t), 0x55);
  return backward<T>(g, t, workspace.get(), nullptr);
}

const char* compute(const Request& call, const Tensors& t) {
  switch (call.type) {
    case 0: return compute<float>(call.geometry, t);
#ifndef FLOAT_ONLY
    case 1: return compute<Half>(call.geometry, t);
    case 2: return compute<BFloat16>(call.geometry, t);
    case 3: return compute<double>(call.geometry, t);
#endif
    default: return "this program has no such type";
  }
}

const char* run(const Request& call, FILE* in, FILE* out) {
  std::vector<Buffer> buffers;
  std::vector<char*> inputs, results;
  for (int i = 0; i < 4; ++i) {
    buffers.push_back(allocate(call.bytes[i] + call.shift[i], 0xff));
    inputs.push_back(buffers.back().get() + call.shift[i]);
    if (fread(inputs[i], 1, call.bytes[i], in) != static_cast<size_t>(call.bytes[i])) return "the file is too short";
  }
  const int64_t result_bytes[4] = {call.bytes[3], call.bytes[0], call.bytes[1], call.bytes[2]};
  for (const int64_t bytes : result_bytes) {
    buffers.push_back(allocate(bytes, 0xff));  // NaN, if it is not written
    results.push_back(buffers.back().get());
  }
  emulator_set(&call.settings);
  const Tensors t{inputs[0],  inputs[1],  inputs[2],  inputs[3],         results[0],
                  results[1], results[2], results[3], call.float_weights != 0};
  if (const char* error = compute(call, t)) return error;
  for (int i = 0; i < 4; ++i) fwrite(results[i], 1, result_bytes[i], out);
  return nullptr;
}

}  // namespace

int main(int, char** arguments) {
  FILE* in = fopen(arguments[1], "rb");
  FILE* out = fopen(arguments[2], "wb");
  if (!in || !out) return 2;
  const char* error = nullptr;
  for (Request call; !error && fread(&call, sizeof call, 1, in) == 1;) error = run(call, in, out);
  if (error) fprintf(stderr, "%s\n", error);
  fclose(in), fclose(out);
  return error ? 1 : 0;
}
