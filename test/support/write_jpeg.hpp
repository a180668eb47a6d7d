// SPDX-License-Identifier: Apache-2.0
// JPEGs of every kind that readers meet, made by libjpeg at test time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace support {

/// Rows of RGB pixels.
struct Picture {
  int width;
  int height;
  std::vector<std::uint8_t> rgb;

  std::uint8_t at(int y, int x, int c) const {
    return rgb[static_cast<std::size_t>((y * width + x) * 3 + c)];
  }
};

/// A picture that JPEG can hold: smooth, and another one for every `seed`.
inline Picture smooth_picture(int width, int height, int seed = 0) {
  Picture picture{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        int const wave = (x * (c + 1) + y * (3 - c) + seed * 37) % 340;
        picture.rgb.push_back(static_cast<std::uint8_t>(40 + (wave < 170 ? wave : 340 - wave)));
      }
  return picture;
}

enum class JpegKind {
  gray,
  ycc444,
  ycc422,
  ycc420,
  ycc411,
  progressive,
  rgb,
  cmyk_adobe,
  ycck_adobe,
  cmyk_plain
};

/// Encodes as this kind, nearly without loss. Gray takes the red channel; black is at 200 of 255 for those with
/// four inks, so that they come back darker.
inline std::string encode_jpeg(Picture const& picture, JpegKind kind = JpegKind::ycc420) {
  bool const inks = kind >= JpegKind::cmyk_adobe, gray = kind == JpegKind::gray;
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);  // which ends the process: the test is wrong then
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = static_cast<JDIMENSION>(picture.width);
  info.image_height = static_cast<JDIMENSION>(picture.height);
  info.input_components = inks ? 4 : gray ? 1 : 3;
  info.in_color_space = inks ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 98, TRUE);
  if (kind == JpegKind::rgb) jpeg_set_colorspace(&info, JCS_RGB);
  if (kind == JpegKind::ycck_adobe) jpeg_set_colorspace(&info, JCS_YCCK);
  if (kind == JpegKind::cmyk_plain) info.write_Adobe_marker = FALSE;
  if (kind == JpegKind::progressive) jpeg_simple_progression(&info);
  if (!gray && !inks && kind != JpegKind::rgb) {
    info.comp_info[0].h_samp_factor = kind == JpegKind::ycc444 ? 1 : kind == JpegKind::ycc411 ? 4 : 2;
    info.comp_info[0].v_samp_factor = kind == JpegKind::ycc420 || kind == JpegKind::progressive ? 2 : 1;
  }
  jpeg_start_compress(&info, TRUE);
  std::vector<std::uint8_t> row;
  for (int y = 0; y < picture.height; ++y) {
    row.clear();
    for (int x = 0; x < picture.width; ++x) {
      for (int c = 0; c < (gray ? 1 : 3); ++c) {
        int const value = picture.at(y, x, c);
        row.push_back(static_cast<std::uint8_t>(kind == JpegKind::cmyk_plain ? 255 - value : value));
      }
      if (inks) row.push_back(static_cast<std::uint8_t>(kind == JpegKind::cmyk_plain ? 255 - 200 : 200));
    }
    JSAMPROW line = row.data();
    jpeg_write_scanlines(&info, &line, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string result(reinterpret_cast<char const*>(bytes), size);
  std::free(bytes);
  return result;
}

}  // namespace support
