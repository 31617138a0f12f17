// What a checkpoint says beside its large arrays: attributes and small arrays, the same on all
// ranks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace koios {

using AttributeValue = std::variant<std::int64_t, std::string>;
using Attributes = std::map<std::string, AttributeValue>;

struct SmallArray {
  std::string name;  // in the file: data_state/next_sample
  std::vector<std::int64_t> shape;
  std::variant<std::vector<std::int64_t>, std::vector<double>> values;

  bool operator==(const SmallArray&) const = default;
};

struct CheckpointHead {
  Attributes root;
  Attributes train_state;          // empty in a file of weights
  std::vector<SmallArray> arrays;  // below /train_state and /data_state, sorted by name

  /// UserError where it is not there or of another type.
  std::int64_t integer(const std::string& train_state_attribute) const;
  std::string text(const std::string& root_attribute) const;

  bool operator==(const CheckpointHead&) const = default;
};

}  // namespace koios
