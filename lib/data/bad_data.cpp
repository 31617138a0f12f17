#include "data/bad_data.hpp"

#include <functional>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::size_t kNews = 10;

}  // namespace

void BadData::found(const std::string& what) {
  if (policy_ == Policy::stop) throw UserError(what);
  const std::lock_guard lock(mutex_);
  const bool is_new = known_.insert(std::hash<std::string>{}(what)).second;
  if (is_new && news_.size() < kNews) news_.push_back(what);
}

std::int64_t BadData::count() const {
  const std::lock_guard lock(mutex_);
  return narrow<std::int64_t>(std::ssize(known_));
}

std::vector<std::string> BadData::take_news() {
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, {});
}

}  // namespace koios
