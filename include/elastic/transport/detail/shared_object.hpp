// SPDX-License-Identifier: Apache-2.0
// The life of a named POSIX shared memory object: made whole or not at all, leased by its maker, replaced
// when its maker has died, and gone from /dev/shm as soon as nobody needs to find it by name.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "elastic/error.hpp"
#include "elastic/transport/detail/process.hpp"

namespace elastic::transport::detail {

/// A descriptor that closes itself, and with it the lease it may hold.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline constexpr std::size_t huge_page = std::size_t(2) << 20;

/// The bytes of an object in this process. They begin on a huge page: that is where huge pages may be mapped.
class Mapping {
 public:
  Mapping(int fd, std::size_t bytes)
      : reserved_(::mmap(nullptr, bytes + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                         -1, 0)),
        bytes_(bytes) {
    if (reserved_ == MAP_FAILED) fail();
    auto const begin = reinterpret_cast<std::uintptr_t>(reserved_);
    base_ = reinterpret_cast<void*>((begin + huge_page - 1) / huge_page * huge_page);
    if (::mmap(base_, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
      ::munmap(reserved_, bytes + huge_page);
      fail();
    }
  }
  Mapping(Mapping const&) = delete;
  Mapping& operator=(Mapping const&) = delete;
  ~Mapping() { ::munmap(reserved_, bytes_ + huge_page); }

  std::byte* data() const { return static_cast<std::byte*>(base_); }
  std::size_t size() const { return bytes_; }

  /// Endpoints that are threads of one process share one mapping: its pages are entered once, and a thread
  /// sanitizer sees both ends of an exchange.
  static std::shared_ptr<Mapping> of(int fd) {
    static std::mutex mutex;
    static std::map<std::pair<dev_t, ino_t>, std::weak_ptr<Mapping>> known;
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw Error("shared memory: " + std::generic_category().message(errno));
    std::lock_guard const lock(mutex);
    std::erase_if(known, [](auto const& entry) { return entry.second.expired(); });
    auto& entry = known[{status.st_dev, status.st_ino}];
    auto mapping = entry.lock();
    if (!mapping || mapping->size() < static_cast<std::size_t>(status.st_size))
      entry = mapping = std::make_shared<Mapping>(fd, static_cast<std::size_t>(status.st_size));
    return mapping;
  }

 private:
  [[noreturn]] void fail() const {
    throw Error("shared memory: cannot map " + std::to_string(bytes_ >> 20) +
                " MiB of address space: " + std::generic_category().message(errno) + " (see ulimit -v)");
  }

  void* reserved_;
  void* base_ = nullptr;
  std::size_t bytes_;
};

/// Takes pages for `bytes` from byte `begin` on out of /dev/shm, or throws a ConfigError that says what is
/// needed, what is there and that `remedy` helps. Without this, a full /dev/shm would be a SIGBUS at the first
/// touch of a page.
inline void reserve(int fd, std::string const& job, std::size_t begin, std::size_t bytes,
                    char const* remedy) {
  int result = EINTR;
  while (result == EINTR)
    result = ::posix_fallocate(fd, static_cast<off_t>(begin), static_cast<off_t>(bytes));
  if (result == 0) return;
  struct statvfs room {};
  std::string const has =
      ::fstatvfs(fd, &room) == 0
          ? std::to_string(std::size_t(room.f_bavail) * std::size_t(room.f_frsize) >> 20) + " MiB free"
          : "too little room";
  throw ConfigError("shared memory: job '" + job + "' needs " + std::to_string((bytes >> 20) + 1) +
                    " MiB in /dev/shm, which has " + has + " (" + std::generic_category().message(result) +
                    "): enlarge it (docker run --shm-size=...) or " + remedy);
}

/// A mapped object and its open file.
struct SharedFile {
  Descriptor file;
  std::shared_ptr<Mapping> mapping;

  /// Whether the object is longer than what is mapped: its maker was not done when it was opened.
  bool grown() const {
    struct stat status {};
    return ::fstat(file.get(), &status) == 0 && static_cast<std::size_t>(status.st_size) > mapping->size();
  }

  /// Takes byte `place` for this open file, which lets it go when it is closed, however its process ends;
  /// false while another has it.
  bool take_place(std::size_t place) const {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(place);
    lock.l_len = 1;
    return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
  }
};

/// An object begins with the process that made it.
struct Owned {
  ProcessId owner;
};

/// The name of an object that was made here; dropping it removes the name, not the object.
class NamedObject {
 public:
  /// Makes an object of `bytes` zeros named `name`, leased to this process, in place of what a dead process
  /// left. The first `reserved` bytes have pages of their own, the others are to be reserved before use. Throws
  /// ConfigError if a live process holds the name or /dev/shm is too small.
  static std::pair<NamedObject, SharedFile> create(std::string const& name, std::string const& job,
                                                   std::size_t reserved, std::size_t bytes) {
    remove_stale(name.substr(0, name.rfind(job)));
    for (int refused = 0;;) {
      Descriptor file(::shm_open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (file.get() < 0) fail(name, "cannot create");
      check_owner(file.get(), name);
      if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        Owned head{};
        bool const known = ::pread(file.get(), &head, sizeof head, 0) == ssize_t(sizeof head);
        if (++refused < 100 && !(known && alive(head.owner))) {  // somebody may just be tidying up
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          continue;
        }
        throw ConfigError("shared memory: job '" + job + "' is already running, rank 0 is pid " +
                          (known && head.owner.pid != 0 ? std::to_string(head.owner.pid) : "not known yet"));
      }
      if (!is_named(file.get(), name)) continue;  // replaced between opening and locking it
      if (size_of(file.get()) != 0) {             // nobody holds the lease: its maker is dead
        ::shm_unlink(name.c_str());
        continue;
      }
      NamedObject object(name);
      reserve(file.get(), job, 0, reserved, "lower SharedMemoryOptions::memory");
      if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) fail(name, "cannot enlarge");
      auto mapping = Mapping::of(file.get());
      return {std::move(object), SharedFile{std::move(file), std::move(mapping)}};
    }
  }

  /// An object that another process has made, mapped; nothing while there is none.
  static std::optional<SharedFile> open(std::string const& name) {
    Descriptor file(::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0600));
    if (file.get() < 0) {
      if (errno == ENOENT) return std::nullopt;
      fail(name, "cannot open");
    }
    check_owner(file.get(), name);
    if (size_of(file.get()) == 0) return std::nullopt;
    auto mapping = Mapping::of(file.get());
    return SharedFile{std::move(file), std::move(mapping)};
  }

  NamedObject(NamedObject&& other) noexcept : name_(std::exchange(other.name_, {})) {}
  NamedObject& operator=(NamedObject&&) = delete;
  ~NamedObject() {
    if (!name_.empty()) ::shm_unlink(name_.c_str());
  }

 private:
  explicit NamedObject(std::string name) : name_(std::move(name)) {}

  /// Removes what dead processes of this user have left under any name that begins with `prefix`.
  static void remove_stale(std::string const& prefix) {
    std::error_code none;
    for (auto const& entry : std::filesystem::directory_iterator("/dev/shm", none)) {
      std::string const name = "/" + entry.path().filename().string();
      if (!name.starts_with(prefix)) continue;
      Descriptor const file(::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0600));
      if (file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 && is_named(file.get(), name))
        ::shm_unlink(name.c_str());
    }
  }

  [[noreturn]] static void fail(std::string const& name, char const* what) {
    throw Error("shared memory: " + std::string(what) + " " + name + ": " +
                std::generic_category().message(errno));
  }
  static std::size_t size_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? static_cast<std::size_t>(status.st_size) : 0;
  }
  static void check_owner(int fd, std::string const& name) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) fail(name, "cannot inspect");
    if (status.st_uid != ::geteuid())
      throw ConfigError("shared memory: " + name + " belongs to user " + std::to_string(status.st_uid) +
                        ", not to this one (" + std::to_string(::geteuid()) + "): choose another job name");
  }
  static bool is_named(int fd, std::string const& name) {
    struct stat mine {};
    struct stat current {};
    Descriptor const now(::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0600));
    return now.get() >= 0 && ::fstat(fd, &mine) == 0 && ::fstat(now.get(), &current) == 0 &&
           mine.st_ino == current.st_ino && mine.st_dev == current.st_dev;
  }

  std::string name_;
};

}  // namespace elastic::transport::detail
