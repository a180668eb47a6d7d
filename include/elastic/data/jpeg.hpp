// SPDX-License-Identifier: Apache-2.0
// JPEG files as RGB, by libjpeg-turbo: decoded at the smallest of its fast scales that is large enough, and only
// as many rows and columns as are wanted.
#pragma once

// jpeglib.h needs these three before it
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include <algorithm>
#include <csetjmp>
#include <iterator>
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
      info_.out_color_space = four ? JCS_CMYK : JCS_EXT_RGBX;
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

  /// Calls `each(y, pixels)` for the rows of `window`, which lies inside the picture, from the top; `pixels` points
  /// at width x 4 bytes: red, green, blue and one without a meaning. A file that is cut off is always found out, other
  /// damage below the window is not. May be called once. `each` must not throw.
  template <class Each>
  void read(Window const& window, Each const& each) {
    JDIMENSION first = 0, columns = 0;  // what libjpeg decodes of a row
    guarded([&] {
      jpeg_start_decompress(&info_);
      // Upsampling looks at neighbors: with a margin, the window's own pixels are those of the whole picture.
      constexpr int margin = 4;
      first = static_cast<JDIMENSION>(window.left > margin ? window.left - margin : 0);
      columns = static_cast<JDIMENSION>(window.left + window.width + margin) - first;
      if (columns > info_.output_width - first) columns = info_.output_width - first;
      jpeg_crop_scanline(&info_, &first, &columns);
    });
    std::vector<std::uint8_t> row(4 * std::size_t{columns});
    std::uint8_t* const pixels = row.data() + 4 * (static_cast<std::size_t>(window.left) - first);
    guarded([&] {
      JSAMPROW target = row.data();
      if (window.top > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(window.top));
      for (int y = 0; y < window.height; ++y) {
        jpeg_read_scanlines(&info_, &target, 1);
        if (info_.out_color_space == JCS_CMYK) to_rgb(pixels, window.width, info_.saw_Adobe_marker != 0);
        each(y, static_cast<std::uint8_t const*>(pixels));
      }
    });
    // What is below is not decoded, but must be there: inside of the data FF D9 stands for their end alone.
    JOCTET const *const rest = info_.src->next_input_byte, *const last = rest + info_.src->bytes_in_buffer;
    constexpr JOCTET end[] = {0xff, JPEG_EOI};
    bool const seen = jpeg_input_complete(&info_) || info_.unread_marker == JPEG_EOI;
    if (!seen && std::search(rest, last, std::begin(end), std::end(end)) == last)
      throw DataError(name_ + ": Premature end of JPEG file");
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

  static void to_rgb(std::uint8_t* cmyk, int count, bool inverted) {
    for (int x = 0; x < count; ++x, cmyk += 4) {
      int const black = inverted ? cmyk[3] : 255 - cmyk[3];
      for (int c = 0; c < 3; ++c) {
        int const ink = inverted ? cmyk[c] : 255 - cmyk[c];
        cmyk[c] = static_cast<std::uint8_t>((ink * black + 127) / 255);
      }
    }
  }

  std::string name_;
  Errors errors_{};
  jpeg_decompress_struct info_{};
};

}  // namespace elastic::data
