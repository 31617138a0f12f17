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
  if (!known_.insert(std::hash<std::string>{}(what)).second) return;
  if (news_.texts.size() < kNews) {
    news_.texts.push_back(what);
  } else {
    ++news_.untold;
  }
}

std::int64_t BadData::count() const {
  const std::lock_guard lock(mutex_);
  return narrow<std::int64_t>(std::ssize(known_));
}

BadData::News BadData::take_news() {
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, {});
}

}  // namespace koios
