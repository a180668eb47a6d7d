// SPDX-License-Identifier: Apache-2.0
// A communicator of NCCL with an owner, and NCCL's errors as exceptions. No call of it blocks: who waits asks ready().
#pragma once

#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include "elastic/error.hpp"

namespace elastic::transport::detail {

inline std::string this_host() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

/// Throws TransportError with NCCL's reason unless the call succeeded or goes on in the background.
inline void check_nccl(ncclResult_t result, ncclComm_t communicator, std::string const& operation,
                       std::string const& where, std::chrono::duration<double> waited = {}) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  char const* const more = ncclGetLastError(communicator);
  throw TransportError(-1, this_host(), operation, waited,
                       where + ": NCCL says " + ncclGetErrorString(result) +
                           (more != nullptr && *more != 0 ? std::string("; ") + more : ""));
}

class NcclCommunicator {
 public:
  /// Begins to join `ranks` ranks, each with the same id; they are together once ready().
  NcclCommunicator(ncclUniqueId id, int rank, int ranks, std::string where) : where_(std::move(where)) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check("nccl: joining", ncclCommInitRankConfig(&communicator_, ranks, id, rank, &config));
  }
  NcclCommunicator(NcclCommunicator const&) = delete;
  ~NcclCommunicator() { abort(); }

  ncclComm_t get() const { return communicator_; }
  void check(std::string const& operation, ncclResult_t result) const {
    check_nccl(result, communicator_, operation, where_);
  }
  /// Whether the last call is through, which must be so before the next one; throws what went wrong since.
  bool ready(std::string const& operation) const {
    ncclResult_t state = ncclSuccess;
    check(operation, ncclCommGetAsyncError(communicator_, &state));
    check(operation, state);
    return state != ncclInProgress;
  }

  /// Begins an end in good order, which all ranks make; after it, once ready(), end().
  void finish() { check("nccl: leaving", ncclCommFinalize(communicator_)); }
  void end() {
    if (ncclComm_t const mine = std::exchange(communicator_, nullptr)) ncclCommDestroy(mine);
  }
  /// Ends at once, with whatever is in flight.
  void abort() {
    if (ncclComm_t const mine = std::exchange(communicator_, nullptr)) ncclCommAbort(mine);
  }

 private:
  std::string where_;
  ncclComm_t communicator_ = nullptr;
};

}  // namespace elastic::transport::detail
