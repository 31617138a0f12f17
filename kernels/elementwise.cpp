#include "kernels/elementwise.hpp"

#include "core/random.hpp"
#include "kernels/detail/launch.hpp"

namespace koios {
namespace {

using detail::load;
using detail::store;

template <class To, class From>
struct Cast {
  Ref<To, 1> dst;
  Ref<const From, 1> src;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t i) const {
    store(dst.data + i, load(width, src.data + i));
  }
};

template <class To, class From>
struct CastMatrix {
  Ref<To, 2> dst;
  Ref<const From, 2> src;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    store(dst.row(n) + i, load(width, src.row(n) + i));
  }
};

template <class To, class From>
struct AddInto {
  Ref<To, 1> dst;
  Ref<const From, 1> src;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t i) const {
    store(dst.data + i, load(width, dst.data + i) + load(width, src.data + i));
  }
};

template <class T>
struct Add {
  Ref<T, 2> dst;
  Ref<const T, 2> a, b;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    store(dst.row(n) + i, load(width, a.row(n) + i) + load(width, b.row(n) + i));
  }
};

template <class T>
struct CopyMatrix {
  Ref<T, 2> dst;
  Ref<const T, 2> src;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t n, std::int64_t i) const {
    store_image(dst.row(n) + i, load_image(width, src.row(n) + i));
  }
};

struct Fill {
  Ref<float, 1> dst;
  float value;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width width, std::int64_t i) const {
    store(dst.data + i, filled(width, value));
  }
};

struct FillNormal {
  Ref<float, 2> dst;  // contiguous
  std::uint64_t seed, stream_of_name;
  std::int64_t first, cols;
  double std, cut;

  template <class Width>
  KOKKOS_FUNCTION void operator()(Width, std::int64_t i) const {
    const std::int64_t size = dst.row_size();
    for (std::int64_t k = i; k < i + Width::size; ++k) {
      const auto index = static_cast<std::uint64_t>(first + k / size * cols + k % size);
      dst.data[k] = static_cast<float>(std * normal_at(seed, stream_of_name, index, cut));
    }
  }
};

template <class To, class From>
void require_equal_sizes(Ref<To, 1> dst, Ref<const From, 1> src) {
  KOIOS_REQUIRE(dst.extent[0] == src.extent[0], "dst has ", dst.extent[0], ", src ", src.extent[0]);
}

template <class To, class From>
void require_equal_sizes(Ref<To, 2> dst, Ref<const From, 2> src) {
  KOIOS_REQUIRE(src.extent[0] == dst.extent[0] && src.extent[1] == dst.extent[1], "dst ",
                dst.extent[0], "x", dst.extent[1], ", src ", src.extent[0], "x", src.extent[1]);
}

}  // namespace

template <class To, class From>
void cast(Stream& s, Ref<To, 1> dst, Ref<const From, 1> src) {
  require_equal_sizes(dst, src);
  detail::for_each_element<bf16>(s, "cast", dst.extent[0], detail::allows_packs(dst, src),
                                 Cast<To, From>{dst, src});
}

template <class To, class From>
void cast(Stream& s, Ref<To, 2> dst, Ref<const From, 2> src) {
  require_equal_sizes(dst, src);
  detail::for_each_pack<bf16>(s, "cast", dst.extent[0], dst.extent[1],
                              detail::allows_packs(dst, src), CastMatrix<To, From>{dst, src});
}

template <class To, class From>
void add_into(Stream& s, Ref<To, 1> dst, Ref<const From, 1> src) {
  require_equal_sizes(dst, src);
  detail::for_each_element<bf16>(s, "add_into", dst.extent[0], detail::allows_packs(dst, src),
                                 AddInto<To, From>{dst, src});
}

template <class T>
void add(Stream& s, Ref<T, 2> dst, Ref<const T, 2> a, Ref<const T, 2> b) {
  KOIOS_REQUIRE(a.extent[0] == dst.extent[0] && a.extent[1] == dst.extent[1] &&
                    b.extent[0] == dst.extent[0] && b.extent[1] == dst.extent[1],
                "dst ", dst.extent[0], "x", dst.extent[1], ", a ", a.extent[0], "x", a.extent[1],
                ", b ", b.extent[0], "x", b.extent[1]);
  detail::for_each_pack<T>(s, "add", dst.extent[0], dst.extent[1], detail::allows_packs(dst, a, b),
                           Add<T>{dst, a, b});
}

template <class T>
void copy_matrix(Stream& s, Ref<T, 2> dst, Ref<const T, 2> src) {
  require_equal_sizes(dst, src);
  detail::for_each_pack<T>(s, "copy_matrix", dst.extent[0], dst.extent[1],
                           detail::allows_packs(dst, src), CopyMatrix<T>{dst, src});
}

void fill(Stream& s, Ref<float, 1> dst, float value) {
  detail::for_each_element<float>(s, "fill", dst.extent[0], detail::allows_packs(dst),
                                  Fill{dst, value});
}

void fill_normal(Stream& s, Ref<float, 1> dst, std::uint64_t seed, std::uint64_t stream_of_name,
                 std::int64_t first, double std, double cut) {
  fill_normal(s, make_ref(dst.data, 1, dst.extent[0]), seed, stream_of_name, first, dst.extent[0],
              std, cut);
}

void fill_normal(Stream& s, Ref<float, 2> dst, std::uint64_t seed, std::uint64_t stream_of_name,
                 std::int64_t first, std::int64_t cols, double std, double cut) {
  KOIOS_REQUIRE(cut > 0, "nothing lies within ", cut, " of the mean");
  KOIOS_REQUIRE(dst.is_contiguous(), "rows of ", dst.row_size(), " with a pitch of ", dst.pitch);
  detail::for_each_element<float>(s, "fill_normal", dst.size(), detail::allows_packs(dst),
                                  FillNormal{dst, seed, stream_of_name, first, cols, std, cut});
}

#define KOIOS_INSTANTIATE(To, From)                                      \
  template void cast<To, From>(Stream&, Ref<To, 1>, Ref<const From, 1>); \
  template void cast<To, From>(Stream&, Ref<To, 2>, Ref<const From, 2>); \
  template void add_into<To, From>(Stream&, Ref<To, 1>, Ref<const From, 1>);
KOIOS_INSTANTIATE(float, float)
KOIOS_INSTANTIATE(float, bf16)
KOIOS_INSTANTIATE(bf16, float)
KOIOS_INSTANTIATE(bf16, bf16)
#undef KOIOS_INSTANTIATE
template void add<float>(Stream&, Ref<float, 2>, Ref<const float, 2>, Ref<const float, 2>);
template void add<bf16>(Stream&, Ref<bf16, 2>, Ref<const bf16, 2>, Ref<const bf16, 2>);
template void copy_matrix<float>(Stream&, Ref<float, 2>, Ref<const float, 2>);
template void copy_matrix<bf16>(Stream&, Ref<bf16, 2>, Ref<const bf16, 2>);

}  // namespace koios
