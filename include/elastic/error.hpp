// SPDX-License-Identifier: Apache-2.0
// What elastic throws. Every message says what went wrong, where, and what was expected or what to do.
#pragma once

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace elastic {

/// The base of everything elastic throws.
class Error : public std::runtime_error {
 public:
  static constexpr std::string_view prefix = "elastic: ";
  explicit Error(std::string const& what) : std::runtime_error(std::string(prefix) + what) {}
};

/// An option, a file key, an environment variable or a combination of them that cannot work.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// Ranks of one job were started with different options; every one of them throws it.
class Disagreement : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

/// A data file that is not what its format promises: names file, offset and what was expected.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A call to an accelerator failed: names the call, the file that made it and the device.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// Communication failed: names the rank and host it failed with, the operation, and the seconds waited.
class TransportError : public Error {
 public:
  TransportError(int peer, std::string const& host, std::string const& operation,
                 std::chrono::duration<double> waited, std::string const& why)
      : Error(operation + (peer < 0 ? "" : " with rank " + std::to_string(peer)) +
              (host.empty() ? "" : " on " + host) + ": " + why + " (after " + seconds(waited) + ")"),
        peer_(peer) {}

  /// The rank it failed with; -1 if no single rank is to blame.
  int peer() const { return peer_; }

 protected:
  static std::string seconds(std::chrono::duration<double> t) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f s", t.count());
    return text;
  }

 private:
  int peer_;
};

/// A wait reached its deadline.
class Timeout : public TransportError {
 public:
  using TransportError::TransportError;
};

/// The peer's process or connection is gone.
class PeerLost : public TransportError {
 public:
  using TransportError::TransportError;
};

/// A peer ended the job on purpose, with `abort(why)`.
class Aborted : public TransportError {
 public:
  using TransportError::TransportError;
};

/// A peer sent something the protocol does not allow at this point (a wrong size, an unknown tag).
class ProtocolError : public TransportError {
 public:
  using TransportError::TransportError;
};

}  // namespace elastic
