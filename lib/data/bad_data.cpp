#include "data/bad_data.hpp"

#include <functional>
#include <utility>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::size_t kNews = 10;
constexpr std::size_t kMostKnown = 1'000'000;  // 40 MB

/// Whether it is met for the first time.
bool is_new(std::unordered_set<std::uint64_t>& known, const std::string& what) {
  return known.size() < kMostKnown && known.insert(std::hash<std::string>{}(what)).second;
}

}  // namespace

void BadData::found(const std::string& what) {
  if (policy_ == OnBadData::stop) throw UserError(what);
  const std::lock_guard lock(mutex_);
  if (!is_new(known_, what)) return;
  last_ = what;
  if (news_.texts.size() < kNews) {
    news_.texts.push_back(what);
  } else {
    ++news_.untold;
  }
}

void BadData::note(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (is_new(noted_, what) && news_.notes.size() < kNews) news_.notes.push_back(what);
}

std::int64_t BadData::count() const {
  const std::lock_guard lock(mutex_);
  return narrow<std::int64_t>(std::ssize(known_));
}

std::string BadData::for_example(std::int64_t before) const {
  const std::lock_guard lock(mutex_);
  return std::ssize(known_) > before ? cat("; left out was, for example, ", last_) : "";
}

BadData::News BadData::take_news() {
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, {});
}

void tell_bad(BadData* bad, const std::string& what) {
  if (bad == nullptr) throw UserError(what);
  bad->found(what);
}

std::string no_memory_at(const std::string& place, const std::string& what) {
  return cat(place, ": no memory for ", what, "; the least is left of ", free_process_memory().of);
}

}  // namespace koios
