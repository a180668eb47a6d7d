// SPDX-License-Identifier: Apache-2.0
// Tensor files, of one tensor and of many: what is saved is loaded, other readers agree, damaged files are refused at their byte, and a
// failing save leaves the old file.
#include "elastic/model/tensor_file.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using Catch::Matchers::ContainsSubstring;
using elastic::ConfigError;
using elastic::DataError;
using elastic::model::load_tensor;
using elastic::model::Metadata;
using elastic::model::NamedTensor;
using elastic::model::save_tensor;
using elastic::model::save_tensors;
using elastic::model::TensorFile;
using elastic::model::TensorView;
using elastic::model::view_tensor;
using support::message_of;

std::vector<float> random_values(std::size_t n) {
  std::mt19937 bits(3);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(bits()) / 1e9f - 2.0f;
  return values;
}

std::string bytes_of(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string with_header(std::string const& json, std::string const& data) {
  std::uint64_t const length = json.size();
  return std::string(reinterpret_cast<char const*>(&length), 8) + json + data;
}

std::string complaint(std::string const& file) {
  support::TempFolder const folder;
  auto const path = folder.write("center.safetensors", file);
  return message_of<DataError>([&] { load_tensor(path); });
}

std::string saved(std::size_t n) {
  support::TempFolder const folder;
  std::vector<float> const values = random_values(n);
  save_tensor(folder.path() / "t", "center", values, {{"version", "17"}});
  return bytes_of(folder.path() / "t");
}

std::size_t files_in(std::filesystem::path const& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("what is saved is loaded, bit for bit") {
  support::TempFolder const folder;
  auto const path = folder.path() / "center.safetensors";
  for (std::size_t n : {0u, 1u, 2u, 1001u}) {
    std::vector<float> values = random_values(n);
    if (n > 2) values[1] = std::numeric_limits<float>::infinity();
    save_tensor(path, "center", values, {{"version", "17"}, {"rule", "easgd \"quoted\" \xc3\xa9"}});
    NamedTensor const tensor = load_tensor(path);
    REQUIRE(tensor.name == "center");
    REQUIRE(tensor.values == values);
    REQUIRE(tensor.metadata.size() == 2);
    REQUIRE(tensor.metadata.at("version") == "17");
    REQUIRE(tensor.metadata.at("rule") == "easgd \"quoted\" \xc3\xa9");
    REQUIRE(files_in(folder.path()) == 1);  // nothing unfinished is left
  }
}

TEST_CASE("the bytes are those of the safetensors format") {
  std::string const file = saved(5);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  REQUIRE(length % 8 == 0);
  REQUIRE(file.size() == 8 + length + 20);
  auto const header = nlohmann::json::parse(file.substr(8, length));
  REQUIRE(header["center"]["dtype"] == "F32");
  REQUIRE(header["center"]["shape"] == nlohmann::json::array({5}));
  REQUIRE(header["center"]["data_offsets"] == nlohmann::json::array({0, 20}));
  std::vector<float> const values = random_values(5);
  REQUIRE(std::memcmp(file.data() + 8 + length, values.data(), 20) == 0);
}

TEST_CASE("the checksum is CRC-32C, by instruction and by table") {
  std::string const data = "123456789" + saved(99);
  for (bool const table : {false, true}) {
    elastic::model::detail::Crc32c nine, all, parts;
    if (table) nine.use_table(), all.use_table();
    nine.add(data.data(), 9);
    CHECK(nine.text() == "e3069283");
    all.add(data.data(), data.size());
    for (std::size_t first = 0, n = 1; first < data.size(); first += n, n = n % 23 + 1)
      parts.add(data.data() + first, std::min(n, data.size() - first));
    CHECK(all.value() == parts.value());
  }
}

TEST_CASE("Python reads the file with nothing but struct and json") {
  if (std::system("python3 -c pass 2>/dev/null") != 0) {
    WARN("python3 is not installed");
    return;
  }
  support::TempFolder const folder;
  std::vector<float> const values = random_values(100);
  save_tensor(folder.path() / "t", "center", values, {{"version", "17"}});
  auto const script = folder.write("read.py", R"(
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
length, = struct.unpack_from('<Q', data)
header = json.loads(data[8:8 + length])
begin, end = header['center']['data_offsets']
values = struct.unpack_from('<%df' % header['center']['shape'][0], data, 8 + length + begin)
assert header['__metadata__']['version'] == '17' and 8 + length + end == len(data)
print('%.6f' % sum(values))
)");
  auto const out = folder.path() / "sum";
  std::string const command =
      "python3 '" + script.string() + "' '" + (folder.path() / "t").string() + "' > '" + out.string() + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  double sum = 0;
  for (float value : values) sum += double{value};
  REQUIRE(std::stod(bytes_of(out)) == Approx(sum).margin(1e-5));
}

TEST_CASE("a file that another tool wrote without a checksum is read") {
  support::TempFolder const folder;
  std::string const data("\0\0\x80\x3f\0\0\0\x40", 8);
  std::string const json = R"({"weights":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   )";
  NamedTensor const tensor = load_tensor(folder.write("t", with_header(json, data)));
  REQUIRE(tensor.name == "weights");
  REQUIRE(tensor.values == std::vector<float>{1.0f, 2.0f});
  REQUIRE(tensor.metadata.empty());
}

TEST_CASE("many tensors of two types come back in order, with shapes and names") {
  support::TempFolder const folder;
  auto const path = folder.path() / "t";
  std::vector<float> const weights = random_values(24), none;
  std::vector<double> const halves{0.5, 0.25, -1};
  std::vector<TensorView> const views{view_tensor<float>("z.weight", weights, {2, 3, 4}),
                                      view_tensor<float>("empty", none), view_tensor<double>("a", halves)};
  save_tensors(path, views, {{"rule", "bsp"}});
  TensorFile const file(path);
  CHECK(file.metadata() == Metadata{{"rule", "bsp"}});
  REQUIRE(file.tensors().size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(to_string(file.tensors()[i].info) == to_string(views[i].info));
    CHECK(file.tensors()[i].info.name == views[i].info.name);
    CHECK(file.tensors()[i].bytes == views[i].bytes);
  }
  CHECK(to_string(file.find("z.weight")->info) == "F32[2,3,4]");
  CHECK(file.find("b") == nullptr);
  std::vector<TensorView> const twice{views[0], views[0]};
  CHECK_THAT(message_of<ConfigError>([&] { save_tensors(path, twice); }), ContainsSubstring("'z.weight'"));
}

TEST_CASE("a flipped bit in the header is found, wherever it is but in the name of the checksum") {
  std::string const whole = saved(3), name = "crc32c_header";
  std::size_t const at = whole.find(name);
  for (std::size_t byte = 8; byte < whole.size() - 12; ++byte) {
    if (whole[byte] == ' ' || (byte >= at && byte < at + name.size())) continue;  // ' ' is padding
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 1);
    if (complaint(damaged).find("center.safetensors: byte ") == std::string::npos) FAIL(byte);
  }
}

TEST_CASE("a file cut anywhere is refused") {
  std::string const whole = saved(20);
  for (std::size_t keep = 0; keep < whole.size(); ++keep) {
    std::string const message = complaint(whole.substr(0, keep));
    if (message.find("center.safetensors: byte ") == std::string::npos) FAIL(keep << ": " << message);
  }
  CHECK_THAT(complaint(whole.substr(0, 5)),
             ContainsSubstring("byte 0: expected 8 bytes of header length, found 5"));
  CHECK_THAT(complaint(whole.substr(0, 20)),
             ContainsSubstring("byte 0: expected a header length of at most 12"));
  CHECK_THAT(complaint(whole + "x"), ContainsSubstring("describes the 81 bytes behind it, found 80"));
}

TEST_CASE("a flipped bit in the data is found by the checksum") {
  std::string const whole = saved(20);
  for (std::size_t byte = whole.size() - 80; byte < whole.size(); byte += 7) {
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 4);
    CHECK_THAT(complaint(damaged), ContainsSubstring("expected data with the checksum"));
  }
}

TEST_CASE("headers that lie or cannot be understood are refused before anything is allocated") {
  std::string const data(8, 'x');
  auto const said = [&](std::string const& json) { return complaint(with_header(json, data)); };
  CHECK_THAT(complaint(std::string(7, '\xff') + "\x7f" + data),
             ContainsSubstring("found 9223372036854775807"));
  CHECK_THAT(said("{\"t\": "), ContainsSubstring("byte 14: expected a JSON header"));
  CHECK_THAT(said("[1,2]"),
             ContainsSubstring("byte 8: expected a header that is a JSON object, found array"));
  CHECK_THAT(said("{}"), ContainsSubstring("describes the 8 bytes behind it, found 0"));
  CHECK_THAT(complaint(with_header("{}", "")), ContainsSubstring("a header with one tensor, found 0"));
  CHECK_THAT(said(R"({"a":{},"b":{}})"), ContainsSubstring("found a: {}"));
  CHECK_THAT(said(R"({"a":7})"), ContainsSubstring("found a: 7"));
  CHECK_THAT(said(R"({"__metadata__":{"a":1},"t":{}})"), ContainsSubstring("maps strings to strings"));
  CHECK_THAT(said(R"({"t":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}})"),
             ContainsSubstring("found F16[4]"));
  CHECK_THAT(said(R"({"t":{"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]}})"),
             ContainsSubstring("4611686018427387906"));
  CHECK_THAT(said(R"({"t":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})"),
             ContainsSubstring("expected a tensor F32[2], found F32[2,1]"));
  CHECK_THAT(said(R"({"t":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})"), ContainsSubstring("F99"));
  CHECK_THAT(said(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})"),
             ContainsSubstring("more"));
  CHECK_THAT(said(R"({"t":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,8]}})"),
             ContainsSubstring("4294967296"));
  CHECK_THAT(
      said(
          R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})"),
      ContainsSubstring("without gaps: b from byte 4 of the data, found 3"));
  CHECK_THAT(
      said(
          R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}})"),
      ContainsSubstring("without gaps: b from byte 4 of the data, found 5"));
  CHECK_THAT(said(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"), ContainsSubstring("[8,0]"));
  CHECK_THAT(said(R"({"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,-8]}})"), ContainsSubstring("-8"));
  support::TempFolder const folder;
  CHECK_THAT(message_of<DataError>([&] { load_tensor(folder.path() / "nothing"); }),
             ContainsSubstring("nothing: cannot be opened: No such file"));
  CHECK_THAT(message_of<DataError>([&] { load_tensor(folder.path()); }),
             ContainsSubstring("cannot be opened"));
}

TEST_CASE("names and metadata that the format has no room for are refused") {
  support::TempFolder const folder;
  auto const path = folder.path() / "t";
  std::vector<float> const values = random_values(3);
  REQUIRE_THROWS_AS(save_tensor(path, "__metadata__", values), ConfigError);
  REQUIRE_THROWS_AS(save_tensor(path, "t", values, {{"crc32c", "0"}}), ConfigError);
  REQUIRE_THROWS_AS(save_tensor(path, "t", values, {{"a", "\xff\xfe"}}), ConfigError);
  REQUIRE(files_in(folder.path()) == 0);
}

TEST_CASE("a save that fails says why and leaves everything as it was") {
  support::TempFolder const folder;
  std::vector<float> const values = random_values(3);
  auto const nowhere = folder.path() / "missing" / "t";
  CHECK_THAT(message_of<elastic::Error>([&] { save_tensor(nowhere, "t", values); }),
             ContainsSubstring("missing/t: cannot create a file beside it: No such file"));
  auto const taken = folder.path() / "taken";
  std::filesystem::create_directories(taken / "inside");
  CHECK_THAT(message_of<elastic::Error>([&] { save_tensor(taken, "t", values); }),
             ContainsSubstring("taken: cannot rename into place"));
  REQUIRE(files_in(folder.path()) == 1);
}
