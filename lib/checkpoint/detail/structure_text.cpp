#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "checkpoint/detail/structure.hpp"
#include "core/error.hpp"

namespace koios::checkpoint {
namespace {

using Json = nlohmann::json;

// Doubles travel as their bits: JSON has no NaN.
Json to_json(double value) { return Json{{"f", std::bit_cast<std::uint64_t>(value)}}; }

Json to_json(const Attributes& attributes) {
  Json json = Json::object();
  for (const auto& [name, value] : attributes) {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) json[name] = *integer;
    if (const auto* text = std::get_if<std::string>(&value)) json[name] = *text;
  }
  return json;
}

double real_from(const Json& json) { return std::bit_cast<double>(json["f"].get<std::uint64_t>()); }

Attributes attributes_from(const Json& json) {
  Attributes attributes;
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) {
      attributes[name] = value.get<std::string>();
    } else {
      attributes[name] = value.get<std::int64_t>();
    }
  }
  return attributes;
}

Json to_json(const SmallArray& array) {
  Json json = {{"name", array.name}, {"shape", array.shape}};
  if (const auto* reals = std::get_if<std::vector<double>>(&array.values)) {
    json["reals"] = Json::array();
    for (const double value : *reals) json["reals"].push_back(to_json(value));
  } else {
    json["integers"] = std::get<std::vector<std::int64_t>>(array.values);
  }
  return json;
}

SmallArray small_array_from(const Json& json) {
  SmallArray array{json["name"], json["shape"].get<std::vector<std::int64_t>>(), {}};
  if (json.contains("integers")) {
    array.values = json["integers"].get<std::vector<std::int64_t>>();
  } else {
    std::vector<double> reals;
    for (const Json& value : json["reals"]) reals.push_back(real_from(value));
    array.values = std::move(reals);
  }
  return array;
}

}  // namespace

std::int64_t StoredArray::size() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

const StoredArray& Structure::find(const std::string& name) const {
  const auto at = std::find_if(arrays.begin(), arrays.end(),
                               [&](const StoredArray& a) { return a.name == name; });
  if (at == arrays.end()) throw UserError(cat("it has no dataset /", name));
  return *at;
}

std::string to_text(const Structure& structure) {
  Json json = {{"root", to_json(structure.head.root)},
               {"train_state", to_json(structure.head.train_state)},
               {"small", Json::array()},
               {"arrays", Json::array()}};
  for (const SmallArray& array : structure.head.arrays) json["small"].push_back(to_json(array));
  for (const StoredArray& a : structure.arrays) {
    json["arrays"].push_back({a.name, static_cast<int>(a.type), a.shape, a.offset, a.checksum});
  }
  // Not JSON's own text, which holds UTF-8 only.
  const std::vector<std::uint8_t> bytes = Json::to_cbor(json);
  return {bytes.begin(), bytes.end()};
}

Structure structure_from_text(const std::string& text) {
  const Json json = Json::from_cbor(text);
  Structure structure;
  structure.head.root = attributes_from(json["root"]);
  structure.head.train_state = attributes_from(json["train_state"]);
  for (const Json& small : json["small"]) {
    structure.head.arrays.push_back(small_array_from(small));
  }
  for (const Json& a : json["arrays"]) {
    structure.arrays.push_back({a[0], static_cast<DType>(a[1].get<int>()),
                                a[2].get<std::vector<std::int64_t>>(), a[3], a[4]});
  }
  return structure;
}

}  // namespace koios::checkpoint
