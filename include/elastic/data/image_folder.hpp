// SPDX-License-Identifier: Apache-2.0
// A folder of photographs as ImageNet is unpacked: a folder a class, JPEG files in it. Decoded when they are
// read, again in every epoch: data/batch_files.hpp saves that.
#pragma once

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/data/detail/read_file.hpp"
#include "elastic/data/image_store.hpp"
#include "elastic/data/square.hpp"
#include "elastic/error.hpp"

namespace elastic::data {

/// How a folder of images is read.
struct FolderOptions {
  int size = 256;  ///< side of the squares, 1 ... 4096 pixels
  std::vector<std::string>
      class_names{};               ///< the classes, when another folder decides them; empty: those found
  std::filesystem::path labels{};  ///< a text file that names each image's class, if they lie side by side
};

/// The JPEG files (.jpg, .jpeg, in any case) of a folder, as squares of RGB: an ImageStore.
///
/// Without `labels` the images are <folder>/<class>/*.JPEG, and the classes are the folders in sorted order.
/// With `labels`, for ImageNet's flat validation folder, each line of that file begins with the name of an image
/// and its class. Images are sorted by class, then by name, or stand in the order of the lines.
class ImageFolder : public ImageStoreFields {
 public:
  /// Lists the files and opens none of them. Throws DataError for a folder without images or that cannot be
  /// read, and for a class that is not among `class_names`; ConfigError for a size out of range.
  explicit ImageFolder(std::filesystem::path folder, FolderOptions const& options = {})
      : folder_(std::move(folder)) {
    if (options.size < 1 || options.size > 4096)
      throw ConfigError("image folder: expected a size of 1 ... 4096 pixels, found " +
                        std::to_string(options.size));
    channels = 3;
    height = width = options.size;
    class_names = options.class_names;
    try {
      options.labels.empty() ? list_folders() : list_labels(options.labels);
    } catch (std::filesystem::filesystem_error const& error) {
      throw DataError(folder_.string() + ": cannot be read: " + error.code().message());
    }
    classes = static_cast<int>(class_names.size());
    count = labels_.size();
    if (count == 0)
      throw DataError(folder_.string() + ": expected folders of images, <class>/*.JPEG, found none");
  }

  int label(std::size_t i) const { return labels_[i]; }

  /// The file of image i, relative to the folder: "n01440764/n01440764_10026.JPEG".
  std::string name(std::size_t i) const {
    std::string const file = names_.data() + begin_[i];
    return flat_ ? file : class_names[static_cast<std::size_t>(labels_[i])] + "/" + file;
  }

  /// Throws DataError, naming the file, if it cannot be read or decoded.
  std::uint8_t const* image(std::size_t i, std::vector<std::uint8_t>& scratch) const {
    std::string const path = (folder_ / name(i)).string();
    scratch.resize(image_bytes(*this));
    read_square(detail::read_file(path).span(), path, width, scratch.data());
    return scratch.data();
  }

 private:
  static bool is_jpeg(std::filesystem::path const& path) {
    std::string end = path.extension().string();
    for (char& c : end) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return end == ".jpg" || end == ".jpeg";
  }

  void list_folders() {
    bool const given = !class_names.empty();
    std::vector<std::string> folders;
    for (auto const& entry : std::filesystem::directory_iterator(folder_)) {
      std::string const name = entry.path().filename().string();
      if (!entry.is_directory() || name.starts_with(".")) continue;
      if (given && std::ranges::find(class_names, name) == class_names.end())
        throw DataError(entry.path().string() + ": there is no class of this name among the " +
                        std::to_string(class_names.size()) + " expected");
      folders.push_back(name);
    }
    std::ranges::sort(folders);
    if (!given) class_names = folders;
    for (std::size_t c = 0; c < class_names.size(); ++c) {
      if (!std::ranges::binary_search(folders, class_names[c])) continue;
      std::vector<std::string> files;
      for (auto const& entry : std::filesystem::directory_iterator(folder_ / class_names[c]))
        if (is_jpeg(entry.path())) files.push_back(entry.path().filename().string());
      std::ranges::sort(files);
      for (std::string const& file : files) add(file, c);
    }
  }

  void list_labels(std::filesystem::path const& path) {
    flat_ = true;
    std::ifstream file(path);
    if (!file) throw DataError(path.string() + ": cannot be opened: " + std::strerror(errno));
    std::vector<std::string> lines, of_line;
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string name, label;
      if (!(words >> name)) continue;
      words >> label;
      if (label.empty())
        throw DataError(path.string() + ": expected lines '<image> <class>', found '" + line + "'");
      lines.push_back(name);
      of_line.push_back(label);
    }
    if (class_names.empty()) {
      class_names = of_line;
      std::ranges::sort(class_names);
      class_names.erase(std::unique(class_names.begin(), class_names.end()), class_names.end());
    }
    for (std::size_t i = 0; i < lines.size(); ++i) {
      auto const at = std::ranges::find(class_names, of_line[i]);
      if (at == class_names.end())
        throw DataError(path.string() + ": " + lines[i] + ": there is no class '" + of_line[i] +
                        "' among the " + std::to_string(class_names.size()) + " expected");
      add(lines[i], static_cast<std::size_t>(at - class_names.begin()));
    }
  }

  void add(std::string const& name, std::size_t c) {
    begin_.push_back(names_.size());
    names_.append(name).push_back('\0');
    labels_.push_back(static_cast<int>(c));
  }

  std::filesystem::path folder_;
  bool flat_ = false;
  std::string names_;  // of all files, each ended by a zero byte: there may be millions
  std::vector<std::size_t> begin_;
  std::vector<int> labels_;
};

}  // namespace elastic::data
