#include "checkpoint/head.hpp"

#include <type_traits>

#include "core/error.hpp"

namespace koios {
namespace {

template <class T>
const T& find(const Attributes& attributes, const std::string& name, const char* where) {
  const auto at = attributes.find(name);
  if (at == attributes.end() || !std::holds_alternative<T>(at->second)) {
    throw UserError(cat("it has no attribute ", where, name, " that is a single ",
                        std::is_same_v<T, std::string> ? "text" : "whole number"));
  }
  return std::get<T>(at->second);
}

}  // namespace

std::int64_t CheckpointHead::integer(const std::string& train_state_attribute) const {
  return find<std::int64_t>(train_state, train_state_attribute, "/train_state:");
}

std::string CheckpointHead::text(const std::string& root_attribute) const {
  return find<std::string>(root, root_attribute, "/:");
}

}  // namespace koios
