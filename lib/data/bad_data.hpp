// What becomes of data that cannot be used (data/on_bad_data): the first ends the run, or all of it
// is left out and counted. A piece that several streams or epochs run into counts once.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/choices.hpp"

namespace koios {

class BadData {
 public:
  explicit BadData(OnBadData policy) : policy_(policy) {}

  /// `what` names the file and the place in it, and why. stop: throws it as UserError. Any thread.
  void found(const std::string& what);

  /// What is worth a warning and no more, whatever the policy. Any thread.
  void note(const std::string& what);

  bool skips() const { return policy_ == OnBadData::skip; }
  /// Pieces left out so far, up to a million. Any thread.
  std::int64_t count() const;

  /// "; left out was, for example, ...": what the last new piece was, where there are more than
  /// `before`. For those to whom nothing is left. Any thread.
  std::string for_example(std::int64_t before) const;

  struct News {
    std::vector<std::string> texts;  // ten at most
    std::int64_t untold = 0;         // and so many others
    std::vector<std::string> notes;  // likewise ten at most
  };
  /// What was found since the last call. Any thread.
  News take_news();

 private:
  OnBadData policy_;
  mutable std::mutex mutex_;
  std::unordered_set<std::uint64_t> known_;  // by a hash of the text; a million at most
  std::unordered_set<std::uint64_t> noted_;  // likewise
  News news_;
  std::string last_;  // that was left out
};

/// The same where there may be none who is told (null): then it is thrown.
void tell_bad(BadData* bad, const std::string& what);

/// That there is no memory for what lies at `place`, and which limit is short.
std::string no_memory_at(const std::string& place, const std::string& what);

}  // namespace koios
