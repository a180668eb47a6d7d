// SPDX-License-Identifier: Apache-2.0
// How values travel: as they are, or in 16 bits. The conversions are bit arithmetic that compilers vectorize and that
// every device computes alike, to the bit; libraries convert per device, and Eigen's are slow without F16C.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "elastic/ops.hpp"

// A call for every value would end the vectorizing, too.
#define ELASTIC_INLINE_FN [[gnu::always_inline]] ELASTIC_FN

namespace elastic {

/// `float32`: the parameters' own type. `bf16`: half the bytes, the range of float32, 8 bits of precision. `fp16`:
/// half the bytes, 11 bits of precision, at most 65504.
enum class Wire { float32, bf16, fp16 };

constexpr auto names(Wire) {
  return std::array{std::pair{std::string_view("float32"), Wire::float32},
                    std::pair{std::string_view("bf16"), Wire::bf16},
                    std::pair{std::string_view("fp16"), Wire::fp16}};
}

}  // namespace elastic

/// What `T` is on the wire. Rounds to nearest, ties to even; finite values beyond the range become the largest finite
/// one, infinities and NaN stay what they are.
namespace elastic::codec {

// Choices by masks, which no compiler turns into branches: those would end the vectorizing of the loop around them.
using Bits = std::int32_t;
inline constexpr Bits infinity = 0x7F800000;
ELASTIC_INLINE_FN inline Bits bits_of(float x) { return __builtin_bit_cast(Bits, x); }
ELASTIC_INLINE_FN inline float float_of(Bits x) { return __builtin_bit_cast(float, x); }
ELASTIC_INLINE_FN inline Bits below(Bits a, Bits b) {
  return (a - b) >> 31;
}  // all ones if a < b, both at least 0
ELASTIC_INLINE_FN inline Bits select(Bits mask, Bits a, Bits b) { return b ^ ((a ^ b) & mask); }
ELASTIC_INLINE_FN inline Bits least(Bits a, Bits b) { return select(below(a, b), a, b); }
ELASTIC_INLINE_FN inline Bits most(Bits a, Bits b) { return select(below(a, b), b, a); }

struct Bf16 {
  using Value = std::uint16_t;
  static constexpr float largest = 0x1.FEp127f;

  template <class T>
  ELASTIC_INLINE_FN static Value encode(T x) {
    Bits const bits = bits_of(static_cast<float>(x)), size = bits & 0x7FFFFFFF;
    Bits const rounded =
        least(size, 0x7F7F7FFF) + 0x7FFF + (size >> 16 & 1);         // an odd last bit goes up at 1/2
    Bits const special = size | (below(infinity, size) & 0x400000);  // a quiet NaN
    return static_cast<Value>((select(below(size, infinity), least(rounded, 0x7F7F0000), special) >> 16) |
                              (bits >> 16 & 0x8000));
  }
  ELASTIC_INLINE_FN static float decode(Value x) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(x) << 16);
  }
};

struct Fp16 {
  using Value = std::uint16_t;
  static constexpr float largest = 65504;

  template <class T>
  ELASTIC_INLINE_FN static Value encode(T x) {
    Bits const bits = bits_of(static_cast<float>(x)), size = bits & 0x7FFFFFFF;
    // In the sum with 2^(e + 13) the last bit is fp16's; e is the exponent of x, that of its smallest normal at least.
    Bits const clamped = least(size, 0x47800000), exponent = most(clamped & infinity, 0x38800000);
    Bits const base = exponent + (13 << 23);
    Bits const steps = bits_of(float_of(base) + float_of(clamped)) - base;
    Bits const finite = least(((exponent - 0x38800000) >> 13) + steps, 0x7BFF);
    Bits const special = 0x7C00 | (below(infinity, size) & 0x200);  // a quiet NaN
    return static_cast<Value>(select(below(size, infinity), finite, special) | (bits >> 16 & 0x8000));
  }
  ELASTIC_INLINE_FN static float decode(Value x) {
    Bits const size = x & 0x7FFF, exponent = most(size >> 10, 1);
    Bits const base = (exponent + 125) << 23, steps = size - ((exponent - 1) << 10);
    Bits const finite = bits_of(float_of(base + steps) - float_of(base)), special = infinity | size << 13;
    Bits const sign = static_cast<Bits>(static_cast<std::uint32_t>(x & 0x8000) << 16);
    return float_of(select(below(exponent, 31), finite, special) | sign);
  }
};

/// As it is.
template <class T>
struct Plain {
  using Value = T;
  ELASTIC_INLINE_FN static T encode(T x) { return x; }
  ELASTIC_INLINE_FN static T decode(T x) { return x; }
};

}  // namespace elastic::codec

namespace elastic {

/// f(codec) for a wire of 16 bits.
template <class F>
decltype(auto) with_narrow(Wire wire, F f) {
  return wire == Wire::bf16 ? f(codec::Bf16{}) : f(codec::Fp16{});
}

/// f(codec) for any wire of values of type T.
template <class T, class F>
decltype(auto) with_codec(Wire wire, F f) {
  return wire == Wire::float32 ? f(codec::Plain<T>{}) : with_narrow(wire, f);
}

/// Bytes of one value on the wire.
template <class T>
constexpr std::size_t width_on(Wire wire) {
  return wire == Wire::float32 ? sizeof(T) : 2;
}

}  // namespace elastic

namespace elastic::ops {

/// y <- x as it travels
template <class Codec>
struct Encode {
  static constexpr bool overwrites = true;
  template <class T>
  ELASTIC_INLINE_FN void operator()(typename Codec::Value& y, T x) const {
    y = Codec::encode(x);
  }
};

/// y <- what x says
template <class Codec>
struct Decode {
  static constexpr bool overwrites = true;
  template <class T>
  ELASTIC_INLINE_FN void operator()(T& y, typename Codec::Value x) const {
    y = T(Codec::decode(x));
  }
};

/// y <- y + what x says
template <class Codec>
struct AddDecoded {
  template <class T>
  ELASTIC_INLINE_FN void operator()(T& y, typename Codec::Value x) const {
    y += T(Codec::decode(x));
  }
};

/// y <- x as it travels; x <- what that leaves of it
template <class Codec>
struct Split {
  static constexpr bool overwrites = true;
  template <class T>
  ELASTIC_INLINE_FN void operator()(typename Codec::Value& y, T& x) const {
    y = Codec::encode(x);
    x -= T(Codec::decode(y));
  }
};

/// y <- x as it travels; rest <- rest + what that leaves of it
template <class Codec>
struct SplitInto {
  static constexpr bool overwrites = true;
  template <class T>
  ELASTIC_INLINE_FN void operator()(typename Codec::Value& y, T& rest, T x) const {
    y = Codec::encode(x);
    rest += x - T(Codec::decode(y));
  }
};

/// back <- back + rest; rest <- what x says
template <class Codec>
struct GiveBack {
  template <class T>
  ELASTIC_INLINE_FN void operator()(T& rest, T& back, typename Codec::Value x) const {
    back += rest;
    rest = T(Codec::decode(x));
  }
};

/// `Move` of an elastic exchange where the center c has come, and d goes, over the wire: `wire` is c, then d. x moves by
/// the d that the other end decodes.
template <class Codec, class Move>
struct MoveDecoded {
  Move move;
  template <class T>
  ELASTIC_INLINE_FN void operator()(typename Codec::Value& wire, T& x) const {
    T d{};
    move(d, x, T(Codec::decode(wire)));
    wire = Codec::encode(d);
    x += d - T(Codec::decode(wire));
  }
};

/// The same for a `Move` that leaves x alone: x becomes the d that the other end decodes.
template <class Codec, class Move>
struct MakeDecoded {
  Move move;
  template <class T>
  ELASTIC_INLINE_FN void operator()(typename Codec::Value& wire, T& x) const {
    T d{};
    move(d, x, T(Codec::decode(wire)));
    wire = Codec::encode(d);
    x = T(Codec::decode(wire));
  }
};

/// The same d where the center is at hand and nothing travels.
template <class Codec, class Move>
struct MoveRounded {
  static constexpr bool overwrites = true;
  Move move;
  template <class T>
  ELASTIC_INLINE_FN void operator()(T& d, T& x, T c) const {
    typename Codec::Value wire = Codec::encode(c);
    MoveDecoded<Codec, Move>{move}(wire, x);
    d = T(Codec::decode(wire));
  }
};
template <class Codec, class Move>
struct MakeRounded {
  static constexpr bool overwrites = true;
  Move move;
  template <class T>
  ELASTIC_INLINE_FN void operator()(T& d, T x, T c) const {
    typename Codec::Value wire = Codec::encode(c);
    MakeDecoded<Codec, Move>{move}(wire, x);
    d = x;
  }
};

}  // namespace elastic::ops

#undef ELASTIC_INLINE_FN
