// SPDX-License-Identifier: Apache-2.0
// JPEG files as RGB, by libjpeg-turbo: decoded at the smallest of its fast scales that is large enough, and only
// as many rows and columns as are wanted.
#pragma once

// jpeglib.h needs these three before it
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include <csetjmp>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <jpeglib.h>

#include <jerror.h>

#include "elastic/error.hpp"

namespace elastic::data {

/// A part of a picture, in pixels.
struct Window {
  int top = 0;
  int left = 0;
  int height = 0;
  int width = 0;
};

/// A JPEG in memory, of any of the kinds that ImageNet holds: gray, YCbCr and RGB, CMYK and YCCK, with or
/// without Adobe's inversion, progressive or not. Each member throws DataError, beginning with the name given,
/// for data that is not a JPEG or is damaged; damage that does not change a pixel (bytes between segments) is
/// passed over, as every viewer does.
class JpegReader {
 public:
  /// Reads the header. `bytes` must stay until the last call; `name` is for messages.
  JpegReader(std::span<std::uint8_t const> bytes, std::string name) : name_(std::move(name)) {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = [](j_common_ptr info) {
      auto* const errors = reinterpret_cast<Errors*>(info->err);
      info->err->format_message(info, errors->text);
      std::longjmp(errors->jump, 1);
    };
    errors_.base.emit_message = [](j_common_ptr info, int level) {
      int const code = info->err->msg_code;
      bool const harmless =
          code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM;
      if (level < 0 && !harmless) info->err->error_exit(info);
    };
    try {
      guarded([&] {
        jpeg_create_decompress(&info_);
        jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
        jpeg_read_header(&info_, TRUE);
      });
      std::uint64_t const pixels = std::uint64_t{info_.image_width} * info_.image_height;
      if (pixels > largest)  // before libjpeg allocates for it
        throw DataError(name_ + ": " + std::to_string(info_.image_width) + " x " +
                        std::to_string(info_.image_height) + " pixels; at most " + std::to_string(largest) +
                        " are decoded");
      bool const four = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
      info_.out_color_space = four ? JCS_CMYK : JCS_RGB;
      scale_to(0);
    } catch (...) {
      jpeg_destroy_decompress(&info_);
      throw;
    }
  }
  JpegReader(JpegReader const&) = delete;
  JpegReader& operator=(JpegReader const&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info_); }

  /// Of the picture that read() reads.
  int width() const { return static_cast<int>(info_.output_width); }
  int height() const { return static_cast<int>(info_.output_height); }

  /// Shrinks the picture by 2, 4 or 8, as far as its shorter side stays at least `shorter` pixels; 0: leaves it
  /// as it is. These scales alone are decoded by SIMD code. Call it before read().
  void scale_to(int shorter) {
    guarded([&] {
      info_.scale_num = 1;
      for (info_.scale_denom = shorter > 0 ? 8 : 1;; info_.scale_denom /= 2) {
        jpeg_calc_output_dimensions(&info_);
        if (info_.scale_denom == 1 || (width() >= shorter && height() >= shorter)) return;
      }
    });
  }

  /// Writes the pixels of `window`, which lies inside the picture, to `rgb`: height x width x 3 bytes. Reads the
  /// file to its end, so that one that is cut off is always found out. May be called once.
  void read(Window const& window, std::uint8_t* rgb) {
    JDIMENSION first = 0, columns = 0, depth = 0;  // what libjpeg decodes of a row
    guarded([&] {
      jpeg_start_decompress(&info_);
      // Upsampling looks at neighbors: with a margin, the window's own pixels are those of the whole picture.
      constexpr int margin = 32;
      first = static_cast<JDIMENSION>(window.left > margin ? window.left - margin : 0);
      columns = static_cast<JDIMENSION>(window.left + window.width + margin) - first;
      if (columns > info_.output_width - first) columns = info_.output_width - first;
      jpeg_crop_scanline(&info_, &first, &columns);
      depth = static_cast<JDIMENSION>(info_.output_components);
    });
    std::vector<std::uint8_t> row(std::size_t{columns} * depth);
    std::uint8_t const* const from = row.data() + (static_cast<std::size_t>(window.left) - first) * depth;
    bool const inverted = info_.saw_Adobe_marker != 0;
    guarded([&] {
      JSAMPROW target = row.data();
      if (window.top > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(window.top));
      for (int y = 0; y < window.height; ++y, rgb += std::ptrdiff_t{3} * window.width) {
        jpeg_read_scanlines(&info_, &target, 1);
        if (depth == 3) {
          std::memcpy(rgb, from, std::size_t{3} * static_cast<std::size_t>(window.width));
        } else {
          from_cmyk(from, window.width, inverted, rgb);
        }
      }
      JDIMENSION const below = info_.output_height - info_.output_scanline;
      if (below > 1)
        jpeg_skip_scanlines(&info_, below - 1);  // skipping the last one would skip the file's end
      if (below > 0) jpeg_read_scanlines(&info_, &target, 1);
      jpeg_finish_decompress(&info_);
    });
  }

 private:
  static constexpr std::uint64_t largest = std::uint64_t{1} << 28;

  struct Errors {
    jpeg_error_mgr base;
    std::jmp_buf jump;
    char text[JMSG_LENGTH_MAX];
  };

  /// Calls `f`, which calls libjpeg and must hold nothing that has a destructor: an error jumps out of it.
  template <class F>
  void guarded(F const& f) {
    if (setjmp(errors_.jump) != 0) throw DataError(name_ + ": " + errors_.text);
    f();
  }

  static void from_cmyk(std::uint8_t const* cmyk, int count, bool inverted, std::uint8_t* rgb) {
    for (int x = 0; x < count; ++x, cmyk += 4, rgb += 3) {
      int const black = inverted ? cmyk[3] : 255 - cmyk[3];
      for (int c = 0; c < 3; ++c) {
        int const ink = inverted ? cmyk[c] : 255 - cmyk[c];
        rgb[c] = static_cast<std::uint8_t>((ink * black + 127) / 255);
      }
    }
  }

  std::string name_;
  Errors errors_{};
  jpeg_decompress_struct info_{};
};

}  // namespace elastic::data
