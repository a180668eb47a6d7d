// SPDX-License-Identifier: Apache-2.0
// The job's secret: where it comes from, and how a rank proves that it knows it without ever sending it.
#pragma once

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "elastic/error.hpp"

namespace elastic::transport::detail {

using Bytes32 = std::array<unsigned char, 32>;

/// The content of a secret file without the line end; throws ConfigError if others may read it.
inline std::string read_secret_file(std::string const& path) {
  int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    throw ConfigError("ELASTIC_SECRET_FILE=" + path + ": cannot be opened: " + std::strerror(errno));
  struct stat status {};
  char text[4097];
  bool const known = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  ssize_t const length = known ? ::read(file, text, sizeof text) : -1;
  ::close(file);
  if (length < 0) throw ConfigError("ELASTIC_SECRET_FILE=" + path + ": expected a regular, readable file");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    throw ConfigError("ELASTIC_SECRET_FILE=" + path + ": others may read it; run `chmod 600 " + path + "`");
  if (length == sizeof text)
    throw ConfigError("ELASTIC_SECRET_FILE=" + path + ": expected at most 4096 bytes");
  std::string secret(text, static_cast<std::size_t>(length));
  OPENSSL_cleanse(text, sizeof text);
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
  return secret;
}

/// `given`, or else the environment's secret, or else an empty one; throws ConfigError if it is too short.
inline std::string find_secret(std::string const& given) {
  std::string secret = given;
  char const* const text = std::getenv("ELASTIC_SECRET");
  char const* const path = std::getenv("ELASTIC_SECRET_FILE");
  bool wanted = !given.empty();
  if (!wanted && text != nullptr) {
    secret = text;
    wanted = true;
  } else if (!wanted && path != nullptr) {
    secret = read_secret_file(path);
    wanted = true;
  }
  if (wanted && secret.size() < 16)
    throw ConfigError("the job's secret has " + std::to_string(secret.size()) +
                      " bytes, expected at least 16; `openssl rand -hex 32` makes a good one");
  return secret;
}

inline Bytes32 random_nonce() {
  Bytes32 nonce;
  if (RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1)
    throw ConfigError("OpenSSL has no random numbers: RAND_bytes failed");
  return nonce;
}

inline Bytes32 hmac_sha256(std::string_view key, std::string_view text) {
  Bytes32 digest;
  unsigned length = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<unsigned char const*>(text.data()), text.size(), digest.data(),
           &length) == nullptr ||
      length != digest.size())
    throw ConfigError("OpenSSL cannot compute HMAC-SHA256");
  return digest;
}

/// Takes the same time wherever the first difference is.
inline bool same(Bytes32 const& a, Bytes32 const& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace elastic::transport::detail
