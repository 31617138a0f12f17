#include "data/bad_data_report.hpp"

#include <sstream>

#include "core/log.hpp"

namespace koios {
namespace {

constexpr char kNote = '\x01';  // in front of what is a warning only

}  // namespace

void BadDataReport::tell(BadData& bad, const MpiEnv& mpi) {
  const BadData::News news = bad.take_news();
  std::string mine = cat(news.untold, "\n");
  for (const std::string& text : news.notes) mine += cat(kNote, text, "\n");
  for (const std::string& text : news.texts) mine += text + "\n";
  const std::int64_t untold_before = untold_;
  for (const std::string& of_rank : mpi.all_gather(mine)) {
    if (mpi.rank() != 0) continue;
    std::istringstream lines(of_rank);
    std::string text;
    std::getline(lines, text);
    untold_ += std::stoll(text);
    while (std::getline(lines, text)) {
      if (text.starts_with(kNote)) {
        if (noted_.insert(text).second) log::warning("data: ", text.substr(1));
        continue;
      }
      if (!told_.insert(text).second) continue;
      log::warning("left out (", std::ssize(told_) + untold_, " so far): ", text);
    }
  }
  if (untold_ > untold_before) {
    log::warning("left out: ", untold_ - untold_before, " more pieces of data (",
                 std::ssize(told_) + untold_, " so far)");
  }
}

}  // namespace koios
