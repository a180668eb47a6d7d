// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 between two processes that share the job's secret: no certificates, an external pre-shared key and a
// fresh Diffie-Hellman exchange for each connection, so that a secret that leaks later opens no recording.
#pragma once

#include "elastic/transport/detail/asio_config.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/error.hpp"
#include "elastic/transport/detail/secret.hpp"
#include "elastic/transport/detail/tcp_socket.hpp"

namespace elastic::transport::detail {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};

/// What all connections of a rank have in common: the key and the one way to use it.
class TlsKey {
 public:
  /// The key comes from the secret and the job's name. Throws ConfigError if OpenSSL lacks what is needed.
  TlsKey(std::string_view secret, std::string_view job)
      : key_(hmac_sha256(secret, "elastic tls 1.3 key " + std::string(job))),
        context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX* const c = context_.get();
    if (c == nullptr || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256") != 1 || SSL_CTX_set_num_tickets(c, 0) != 1)
      throw ConfigError("tls: OpenSSL has no TLS 1.3 with TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_app_data(c, this);
    SSL_CTX_set_psk_use_session_callback(c, use);
    SSL_CTX_set_psk_find_session_callback(c, find);
  }
  TlsKey(TlsKey const&) = delete;
  TlsKey& operator=(TlsKey const&) = delete;
  ~TlsKey() { OPENSSL_cleanse(key_.data(), key_.size()); }

  SSL_CTX* context() const { return context_.get(); }

 private:
  static constexpr std::string_view identity = "elastic";

  SSL_SESSION* session(SSL* ssl) const {
    static constexpr unsigned char suite[] = {0x13, 0x01};  // TLS_AES_128_GCM_SHA256
    SSL_CIPHER const* const cipher = SSL_CIPHER_find(ssl, suite);
    std::unique_ptr<SSL_SESSION, Freed<SSL_SESSION_free>> made(SSL_SESSION_new());
    if (cipher == nullptr || !made ||
        SSL_SESSION_set1_master_key(made.get(), key_.data(), key_.size()) != 1 ||
        SSL_SESSION_set_cipher(made.get(), cipher) != 1 ||
        SSL_SESSION_set_protocol_version(made.get(), TLS1_3_VERSION) != 1)
      return nullptr;
    return made.release();
  }

  static TlsKey const& of(SSL* ssl) {
    return *static_cast<TlsKey const*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  }
  static int use(SSL* ssl, EVP_MD const*, unsigned char const** id, std::size_t* length, SSL_SESSION** out) {
    *id = reinterpret_cast<unsigned char const*>(identity.data());
    *length = identity.size();
    *out = of(ssl).session(ssl);
    return *out != nullptr ? 1 : 0;
  }
  static int find(SSL* ssl, unsigned char const* id, std::size_t length, SSL_SESSION** out) {
    bool const ours = std::string_view(reinterpret_cast<char const*>(id), length) == identity;
    *out = ours ? of(ssl).session(ssl) : nullptr;
    return 1;
  }

  Bytes32 key_;
  std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>> context_;
};

/// One encrypted connection over a non-blocking socket, which the caller owns and hands to each call.
class Tls {
 public:
  Tls(TlsKey const& key, bool accepts) : ssl_(SSL_new(key.context())) {
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    if (!ssl_ || in_ == nullptr || out_ == nullptr) throw ConfigError("tls: OpenSSL is out of memory");
    BIO_set_mem_eof_return(in_, -1);
    SSL_set_bio(ssl_.get(), in_, out_);  // owns both
    if (accepts) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
      SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER, nullptr);  // a certificate is nobody's, and refused
    }
    scratch_.resize(record + 512);
  }

  /// A step of the handshake: nothing when it is done, would_block, or why it failed.
  error_code shake(Socket& socket) {
    for (;;) {
      ERR_clear_error();
      int const result = SSL_do_handshake(ssl_.get());
      error_code error = flush(socket);
      if (result == 1) return error ? error : SSL_session_reused(ssl_.get()) == 1 ? error_code{} : altered();
      if (SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) return altered();
      if (error || (error = feed(socket))) return error;
    }
  }

  template <class Buffers>
  std::size_t read_some(Socket& socket, Buffers const& buffers, error_code& error) {
    return read(buffers, error, [&] { return feed(socket); });
  }

  /// The same, of what has left the socket already.
  template <class Buffers>
  std::size_t take_some(Buffers const& buffers, error_code& error) {
    return read(buffers, error, [] { return error_code(asio::error::would_block); });
  }

  template <class Buffers>
  std::size_t write_some(Socket& socket, Buffers const& buffers, error_code& error) {
    std::size_t sent = 0;
    std::size_t const size = asio::buffer_size(buffers);
    for (error = flush(socket); !error && sent < size; error = flush(socket)) {
      std::size_t const n = gather(buffers, sent);
      if (SSL_write(ssl_.get(), scratch_.data(), static_cast<int>(n)) <= 0) {
        error = altered();
        return sent;
      }
      sent += n;
      written_ += n;
      // AES-GCM wears out: RFC 8446, 5.5 allows about 2^24.5 records with one key.
      if (written_ >= fresh_key_after && SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        written_ = 0;
    }
    if (sent > 0) error = {};  // it will come again
    return sent;
  }

  /// Writes what is encrypted and waits.
  error_code flush(Socket& socket) {
    for (char* data = nullptr;;) {
      std::size_t const size = static_cast<std::size_t>(BIO_get_mem_data(out_, &data));
      if (size == 0) return {};
      error_code error;
      std::size_t const sent = socket.write_some(asio::buffer(data, size), error);
      if (error) return error;
      discard(sent);
    }
  }

  /// Whether something waits to be written, and whether something was read that nobody has taken.
  bool unsent() const { return BIO_pending(out_) > 0; }
  bool pending() const { return SSL_pending(ssl_.get()) > 0 || BIO_pending(in_) > 0; }

 private:
  static constexpr std::size_t record = 16 << 10;
  static constexpr std::uint64_t fresh_key_after = std::uint64_t{64} << 30;

  static error_code altered() {
    return boost::system::errc::make_error_code(boost::system::errc::bad_message);
  }

  template <class Buffers, class More>
  std::size_t read(Buffers const& buffers, error_code& error, More more) {
    std::size_t got = 0;
    error = {};
    for (asio::mutable_buffer room : buffers)
      while (room.size() > 0) {
        ERR_clear_error();
        int const n = SSL_read(ssl_.get(), room.data(), static_cast<int>(std::min(room.size(), record)));
        if (n > 0) {
          got += static_cast<std::size_t>(n);
          room += static_cast<std::size_t>(n);
          continue;
        }
        int const why = SSL_get_error(ssl_.get(), n);
        if (why == SSL_ERROR_WANT_READ)
          error = more();
        else
          error = why == SSL_ERROR_ZERO_RETURN ? error_code(asio::error::eof) : altered();
        if (!error) continue;
        if (got > 0) error = {};  // it will come again
        return got;
      }
    return got;
  }

  /// Reads what has arrived.
  error_code feed(Socket& socket) {
    error_code error;
    std::size_t const n = socket.read_some(asio::buffer(scratch_), error);
    if (!error && BIO_write(in_, scratch_.data(), static_cast<int>(n)) != static_cast<int>(n))
      return altered();
    return error;
  }

  /// Copies a record's worth of the buffers from `first` on, so that a frame's header needs no record of its own.
  template <class Buffers>
  std::size_t gather(Buffers const& buffers, std::size_t first) {
    std::size_t count = 0;
    for (asio::const_buffer part : buffers) {
      std::size_t const skipped = std::min(first, part.size());
      first -= skipped;
      part += skipped;
      std::size_t const n = std::min(part.size(), record - count);
      if (n > 0) std::memcpy(scratch_.data() + count, part.data(), n);
      count += n;
    }
    return count;
  }

  void discard(std::size_t sent) {
    while (sent > 0)
      sent -= static_cast<std::size_t>(
          BIO_read(out_, scratch_.data(), static_cast<int>(std::min(sent, scratch_.size()))));
  }

  std::unique_ptr<SSL, Freed<SSL_free>> ssl_;
  BIO* in_;
  BIO* out_;
  std::vector<char> scratch_;
  std::uint64_t written_ = 0;
};

}  // namespace elastic::transport::detail
