// SPDX-License-Identifier: Apache-2.0
// What a command line can choose from: the rules, the transports, and where a process computes.
#pragma once

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include "elastic/dispatch.hpp"
#include "elastic/model/cuda_net_options.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/staged.hpp"
#include "elastic/transport/tcp.hpp"
#include "elastic/transport/threads.hpp"
#if __has_include(<boost/mpi/communicator.hpp>)
#include "elastic/transport/mpi.hpp"
#endif
#include "job.hpp"

namespace sample {

namespace transport = elastic::transport;
using Rules = elastic::Types<elastic::rule::AsyncEasgd, elastic::rule::SyncEasgd, elastic::rule::Bsp>;
#if __has_include(<boost/mpi/communicator.hpp>)
using Nets = elastic::Types<transport::Tcp, transport::SharedMemory, transport::Mpi, transport::Threads,
                            transport::Serial>;
#else
using Nets = elastic::Types<transport::Tcp, transport::SharedMemory, transport::Threads, transport::Serial>;
#endif

enum class DeviceName { cpu, cuda, thrust };

constexpr auto names(DeviceName) {
  return std::array{std::pair{std::string_view("cpu"), DeviceName::cpu},
                    std::pair{std::string_view("cuda"), DeviceName::cuda},
                    std::pair{std::string_view("thrust"), DeviceName::thrust}};
}

/// Where this process computes; the processes of a job may differ.
struct Compute {
  DeviceName device = DeviceName::cpu;
  int gpu = 0;
  transport::Use center_on_device = transport::Use::never;
  std::size_t piece_bytes = transport::StagedOptions().piece_bytes;
  elastic::model::CudaNetOptions net{};

  static constexpr auto options = std::tuple{
      elastic::Option{"device", &Compute::device,
                      "cpu; cuda: a GPU; thrust: what would run on a GPU, on the CPU, slowly"},
      elastic::Option{"gpu", &Compute::gpu, "cuda: which GPU, from 0", 0.0},
      elastic::Option{
          "center_on_device", &Compute::center_on_device,
          "shared_memory, threads: the center in the server's GPU memory: never, auto (if a check "
          "with data passes), always; then no process computes on the CPU"},
      elastic::Option{"piece_bytes", &Compute::piece_bytes,
                      "sync_easgd, bsp: sums leave the GPU in pieces of so many bytes; 0, whole, where other "
                      "processes of the job compute on the CPU",
                      0.0},
  };
};

class Commits;

/// One process's part in a run.
struct Part {
  Job const& job;
  Compute const& compute;
  elastic::optimizer::Sgd const& sgd;
  Sets const& sets;
  Commits& commits;
  std::atomic<bool> const& stop;
};

/// Plays this rank's role until the run ends; returns whether somebody stopped it before its time. Each is compiled
/// in a file of its own; the last is there where nvcc was.
template <class Net, class Rule>
bool play_on_cpu(Net& net, Rule const& rule, Part const& part);
template <class Net, class Rule>
bool play_on_thrust(Net& net, Rule const& rule, Part const& part);
template <class Net, class Rule>
bool play_on_cuda(Net& net, Rule const& rule, Part const& part);

/// Devices with a memory of their own compute in a process for each role: there every combination costs a compiler
/// dear, nvcc most of all.
template <class Net>
inline constexpr bool between_processes =
    !std::same_as<Net, transport::Threads> && !std::same_as<Net, transport::Serial>;

/// Compiles `play` for a transport and every rule.
#define SAMPLE_PLAY_OVER(play, Net)                                        \
  template bool play(Net&, elastic::rule::AsyncEasgd const&, Part const&); \
  template bool play(Net&, elastic::rule::SyncEasgd const&, Part const&);  \
  template bool play(Net&, elastic::rule::Bsp const&, Part const&);

#if __has_include(<boost/mpi/communicator.hpp>)
#define SAMPLE_PLAY_OVER_MPI(play) SAMPLE_PLAY_OVER(play, transport::Mpi)
#else
#define SAMPLE_PLAY_OVER_MPI(play)
#endif
#define SAMPLE_PLAY_BETWEEN_PROCESSES(play)       \
  SAMPLE_PLAY_OVER(play, transport::Tcp)          \
  SAMPLE_PLAY_OVER(play, transport::SharedMemory) \
  SAMPLE_PLAY_OVER_MPI(play)

}  // namespace sample
