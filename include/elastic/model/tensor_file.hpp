// SPDX-License-Identifier: Apache-2.0
// One flat vector of parameters in a file of its own, as safetensors.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "elastic/model/safetensors.hpp"
#include "elastic/span.hpp"

namespace elastic::model {

/// What a tensor file holds.
struct NamedTensor {
  std::string name;
  std::vector<float> values;
  Metadata metadata;
};

/// Writes `values` as the tensor `name` of shape [size] and type F32 to `path`, as save_tensors does.
inline void save_tensor(std::filesystem::path const& path, std::string const& name, Span<float const> values,
                        Metadata metadata = {}) {
  TensorView const tensor = view_tensor(name, values);
  save_tensors(path, {&tensor, 1}, std::move(metadata));
}

/// Reads what save_tensor wrote, or any safetensors file with a single one-dimensional F32 tensor. Throws DataError
/// as TensorFile does.
inline NamedTensor load_tensor(std::filesystem::path const& path) {
  TensorFile const file(path);
  if (file.tensors().size() != 1)
    file.fail(8, "a header with one tensor", std::to_string(file.tensors().size()));
  auto const& [info, bytes] = file.tensors().front();
  if (info.dtype != "F32" || info.shape.size() != 1)
    file.fail(8, "a tensor F32[" + std::to_string(bytes.size() / sizeof(float)) + "]", to_string(info));
  NamedTensor tensor{info.name, std::vector<float>(bytes.size() / sizeof(float)), file.metadata()};
  if (!bytes.empty()) std::memcpy(tensor.values.data(), bytes.data(), bytes.size());
  return tensor;
}

}  // namespace elastic::model
