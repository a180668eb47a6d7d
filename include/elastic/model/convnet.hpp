// SPDX-License-Identifier: Apache-2.0
// The fastest CPU backend this build has, under one name.
#pragma once

#if defined(ELASTIC_HAS_ONEDNN) && __has_include(<oneapi/dnnl/dnnl.hpp>)
#include "elastic/model/onednn_net.hpp"

namespace elastic::model {
using Convnet = OnednnNet;
}  // namespace elastic::model
#else
#include "elastic/model/eigen_net.hpp"

namespace elastic::model {
/// EigenNet; with ELASTIC_HAS_ONEDNN, which CMake sets where it finds oneDNN: OnednnNet.
using Convnet = EigenNet;
}  // namespace elastic::model
#endif
